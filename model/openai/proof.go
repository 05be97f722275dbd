package openai

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	stdimage "image"
	"image/color"
	"image/png"
	"log/slog"
	"math"
	"sync"

	"github.com/promptmill/promptmill/model"
)

// A proof is something that has to be found out about a server, once.
type proof[T any] struct {
	mu    sync.Mutex
	known bool
	value T
	// running is closed when the attempt to find out that is under way ends; nil if none is.
	running chan struct{}
}

// get returns what find finds. Callers that come meanwhile wait; if find fails, the next one tries.
func (p *proof[T]) get(ctx context.Context, find func(context.Context) (T, error)) (T, error) {
	for {
		p.mu.Lock()
		if p.known {
			defer p.mu.Unlock()
			return p.value, nil
		}
		running := p.running
		if running == nil {
			p.running = make(chan struct{})
		}
		p.mu.Unlock()
		if running == nil {
			break
		}
		select {
		case <-running:
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
	}
	value, err := find(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.running)
	p.running = nil
	if err == nil {
		p.known, p.value = true, value
	}
	return value, err
}

// lower corrects a proof of how many choices a request may ask for: not more than n.
func (p *mostChoices) lower(n int) {
	p.mu.Lock()
	p.value = min(p.value, n)
	p.mu.Unlock()
}

// mostChoices is how many choices a request may ask for.
type mostChoices struct{ proof[int] }

// proveN asks for two choices: if two come that differ, any number may be asked for, else one.
func (c *chat) proveN(ctx context.Context) (int, error) {
	body, err := c.encode(ctx, model.ChatRequest{
		Messages: []model.Message{model.Text("user", "Write one sentence about anything you like.")},
		Sampling: model.Sampling{Temperature: 1, MaxTokens: 32},
	})
	if err != nil {
		return 0, err
	}
	got, err := c.ask(ctx, body, 2, 1)
	switch {
	case errors.Is(err, model.ErrRejected):
		slog.Info("server refuses n: several answers are several requests", "model", c.name, "reason", err)
		return 1, nil
	case err != nil:
		return 0, fmt.Errorf("find out whether the server takes n: %w", err)
	case len(got.answers) != 2 || got.answers[0].Text == got.answers[1].Text:
		slog.Info("server ignores n: several answers are several requests", "model", c.name, "choices", len(got.answers))
		return 1, nil
	}
	return math.MaxInt, nil
}

// twoPictures fails if the answer does not depend on both of two pictures.
func (c *chat) twoPictures(ctx context.Context) error {
	found, err := c.pictures.get(ctx, func(ctx context.Context) (error, error) {
		err := c.comparePictures(ctx)
		switch {
		case errors.Is(err, model.ErrConfig), errors.Is(err, model.ErrRejected):
			return fmt.Errorf("%w: probe with two pictures: %w; set the option probe to off to use it all the same", model.ErrConfig, err), nil
		case err != nil:
			return nil, fmt.Errorf("probe with two pictures: %w", err) // not the last word
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	return found
}

// comparePictures needs no skill of the model: at temperature 0, changing either picture must change
// the answer, and changing nothing must not.
func (c *chat) comparePictures(ctx context.Context) error {
	disc, err := probePicture(func(x, y int) color.Color {
		if dx, dy := x-112, y-112; dx*dx+dy*dy < 80*80 {
			return color.RGBA{0xd0, 0x10, 0x10, 0xff}
		}
		return color.White
	})
	if err != nil {
		return err
	}
	stripes, err := probePicture(func(x, _ int) color.Color {
		if x/28%2 == 0 {
			return color.RGBA{0x10, 0x40, 0xe0, 0xff}
		}
		return color.Black
	})
	if err != nil {
		return err
	}
	describe := func(one, two model.Picture) (string, error) {
		body, err := c.encode(ctx, model.ChatRequest{
			Messages: []model.Message{{Role: "user", Parts: []model.Part{
				{Text: "Image 1:"},
				{Picture: &one},
				{Text: "Image 2:"},
				{Picture: &two},
				{Text: "Describe the colours and shapes of Image 1, then those of Image 2."},
			}}},
			Sampling: model.Sampling{MaxTokens: 64},
		})
		if err != nil {
			return "", err
		}
		got, err := c.ask(ctx, body, 1, 1)
		if err != nil {
			return "", err
		}
		return got.answers[0].Text, nil
	}
	both, err := describe(disc, stripes)
	if err != nil {
		return err
	}
	for _, other := range []struct {
		one, two model.Picture
		same     bool
		wrong    string
	}{
		{disc, stripes, true, "equal requests at temperature 0 get different answers, so nothing can be told"},
		{stripes, stripes, false, "the server does not look at the first of two pictures"},
		{disc, disc, false, "the server does not look at the second of two pictures"},
	} {
		text, err := describe(other.one, other.two)
		if err != nil {
			return err
		}
		if (text == both) != other.same {
			return fmt.Errorf("%w: %s", model.ErrConfig, other.wrong)
		}
	}
	return nil
}

// probePicture draws 224 x 224 pixels, which every vision encoder takes.
func probePicture(at func(x, y int) color.Color) (model.Picture, error) {
	img := stdimage.NewRGBA(stdimage.Rect(0, 0, 224, 224))
	for y := range 224 {
		for x := range 224 {
			img.Set(x, y, at(x, y))
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return model.Picture{}, err
	}
	return model.Picture{SHA256: "probe", Bytes: func(context.Context) ([]byte, error) { return b.Bytes(), nil }}, nil
}
