package imagegen

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/deadletter"
)

// drawn is what became of one slate.
type drawn struct {
	slate           schemas.Slate
	dead            []schemas.Rejected
	rawUsage, usage model.Usage
}

// A picture is the outcome for one text: the reference, or the reason why there is none.
type picture struct {
	ref            schemas.ImageRef
	reason, detail string
	attempts       int
	usage          model.Usage
}

// draw draws the raw prompt's and the candidates' pictures at once.
func (fn *drawFn) draw(ctx context.Context, slate schemas.Slate) (drawn, error) {
	// The runner may hand the same element to another stage: it is not ours to change.
	slate.Candidates = slices.Clone(slate.Candidates)
	slate.Raw = schemas.ImageRef{}
	for i := range slate.Candidates {
		slate.Candidates[i].Image = schemas.ImageRef{}
	}
	out := drawn{slate: slate}
	if len(slate.Candidates) == 0 {
		return out, nil
	}
	pictures := make([]picture, 1+len(slate.Candidates)) // the raw prompt's first
	err := async.Each(ctx, len(pictures), func(ctx context.Context, i int) (err error) {
		text := slate.Prompt.Text
		if i > 0 {
			text = slate.Candidates[i-1].Text
		}
		pictures[i], err = fn.picture(ctx, slate.Prompt.ID, text)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("imagegen: prompt %s: %w", slate.Prompt.ID, err)
	}
	raw := pictures[0]
	out.slate.Raw, out.rawUsage = raw.ref, raw.usage
	if raw.reason != "" {
		out.dead = append(out.dead, deadletter.Row(StageRaw, slate.Prompt.ID, raw.reason, raw.attempts, raw.detail, slate.Prompt))
	}
	for i, p := range pictures[1:] {
		out.usage.Add(p.usage)
		if raw.reason != "" {
			p.reason, p.detail = RawPictureMissing, "raw picture: "+raw.reason
		}
		c := &out.slate.Candidates[i]
		if p.reason != "" {
			out.dead = append(out.dead, deadletter.Row(Stage, c.ID, p.reason, p.attempts, p.detail, slate.Prompt))
			continue
		}
		c.Image = p.ref
	}
	return out, nil
}

// picture draws text until the picture shows something or no attempt is left.
func (fn *drawFn) picture(ctx context.Context, promptID, text string) (picture, error) {
	cfg := fn.Config
	var p picture
	for attempt := range cfg.Attempts + cfg.ExtraAttempts {
		seed := schemas.Seed(cfg.Seed, "draw", promptID, attempt)
		d, usage, err := fn.pictures.Draw(ctx, model.ImageRequest{
			Prompt: text, NegativePrompt: cfg.NegativePrompt, Width: cfg.Width, Height: cfg.Height,
			Steps: cfg.Steps, Guidance: cfg.Guidance, Scheduler: cfg.Scheduler, Seed: seed,
		})
		p.usage.Add(usage)
		p.attempts = attempt + 1
		if err != nil {
			p.detail = err.Error()
			if errors.Is(err, model.ErrBadPicture) && ctx.Err() == nil {
				p.reason = BadPicture
				return p, nil
			}
			p.reason, err = deadletter.Reason(ctx, err)
			return p, err
		}
		switch {
		case d.Flagged:
			p.reason = Flagged
		case d.Black:
			p.reason = Black
		default:
			p.reason, p.detail = "", ""
			p.ref = schemas.ImageRef{
				SHA256: d.SHA256, Width: int32(d.Width), Height: int32(d.Height), Seed: seed, Attempt: int32(attempt),
			}
			return p, nil
		}
		p.detail = "picture " + d.SHA256
	}
	return p, nil
}
