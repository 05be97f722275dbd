package responselog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/store"
)

// painter paints a picture of a new colour each time, or what data says.
type painter struct {
	calls   atomic.Int64
	flagged bool
	data    []byte
	err     error
}

func (p *painter) Info() model.Info { return model.Info{Name: "painter", Weights: "p1"} }

func (p *painter) Draw(_ context.Context, req model.ImageRequest) (model.ImageResponse, error) {
	n := p.calls.Add(1)
	resp := model.ImageResponse{Data: p.data, Flagged: p.flagged, Usage: model.Usage{Calls: 1}}
	if p.data == nil {
		resp.Data = paint(req.Width, req.Height, color.RGBA{R: uint8(100 + n), A: 255})
	}
	return resp, p.err
}

func paint(w, h int, c color.RGBA) []byte {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		img.SetRGBA(i%w, i/w, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var drawCat = model.ImageRequest{
	Prompt: "a cat", NegativePrompt: "dog", Width: 8, Height: 6, Steps: 20, Guidance: 7.5, Scheduler: "ddim", Seed: 3,
}

func draw(t *testing.T, p *responselog.PictureLog, req model.ImageRequest) (responselog.Drawn, model.Usage) {
	t.Helper()
	d, usage, err := p.Draw(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return d, usage
}

var (
	paid = model.Usage{Calls: 1}
	kept = model.Usage{CacheHits: 1}
)

func TestPicturesAreDrawnOnce(t *testing.T) {
	for name, st := range map[string]store.Store{"local": local(t, t.TempDir()), "remote": &remote{Store: local(t, t.TempDir())}} {
		t.Run(name, func(t *testing.T) {
			inner := &painter{flagged: true}
			log := open(t, st)
			want, usage := draw(t, responselog.Pictures(inner, log, model.PictureLimits{}), drawCat)
			if usage != paid || want.Width != 8 || want.Height != 6 || want.Black || !want.Flagged {
				t.Errorf("drew %+v for %+v", want, usage)
			}
			shut(t, log)
			inner.flagged = false
			pictures := responselog.Pictures(inner, open(t, st), model.PictureLimits{})
			if got, usage := draw(t, pictures, drawCat); got != want || usage != kept {
				t.Errorf("the log has %+v for %+v, want %+v", got, usage, want)
			}
			data, err := pictures.Picture(want.SHA256).Bytes(t.Context())
			if err != nil || !bytes.Equal(data, paint(8, 6, color.RGBA{R: 101, A: 255})) {
				t.Errorf("%d bytes of it, %v", len(data), err)
			}
			if pictures.Info() != inner.Info() {
				t.Errorf("info %+v", pictures.Info())
			}
			inner.data = paint(4, 4, color.RGBA{A: 255})
			other := drawCat
			other.Seed++
			if got, _ := draw(t, pictures, other); !got.Black || got.Flagged {
				t.Errorf("a black picture is %+v", got)
			}
		})
	}
}

func TestEveryFieldOfAPictureIsInTheKey(t *testing.T) {
	pictures := responselog.Pictures(&painter{}, open(t, local(t, t.TempDir())), model.PictureLimits{})
	seen := map[string]int{}
	for i, change := range []func(*model.ImageRequest){
		func(*model.ImageRequest) {},
		func(r *model.ImageRequest) { r.Prompt = "a catd" },
		func(r *model.ImageRequest) { r.Prompt, r.NegativePrompt = "a catd", "og" },
		func(r *model.ImageRequest) { r.Width, r.Height = 6, 8 },
		func(r *model.ImageRequest) { r.Steps = 21 },
		func(r *model.ImageRequest) { r.Guidance = 7 },
		func(r *model.ImageRequest) { r.Scheduler = "pndm" },
		func(r *model.ImageRequest) { r.Seed = 4 },
	} {
		req := drawCat
		change(&req)
		d, usage := draw(t, pictures, req)
		if before, dup := seen[d.SHA256]; dup || usage != paid {
			t.Errorf("change %d gets the picture of change %d", i, before)
		}
		seen[d.SHA256] = i
	}
}

func TestMissingPicturesAreDrawnAgain(t *testing.T) {
	for _, tc := range []struct {
		name string
		hurt func(t *testing.T, path string, data []byte)
		// read says that the damage shows when the picture is read, not before.
		read error
	}{
		{"gone", func(t *testing.T, path string, _ []byte) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"cut off", func(t *testing.T, path string, data []byte) { write(t, path, data[:len(data)-1]) }, nil},
		{"a byte flipped", func(t *testing.T, path string, data []byte) {
			data[40] ^= 1
			write(t, path, data)
		}, store.ErrDamaged},
	} {
		// A deterministic model draws the same bytes again, another one other bytes.
		for _, same := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, same %v", tc.name, same), func(t *testing.T) {
				dir := t.TempDir()
				st := local(t, dir)
				inner := &painter{}
				if same {
					inner.data = paint(8, 6, color.RGBA{G: 200, A: 255})
				}
				pictures := responselog.Pictures(inner, open(t, st), model.PictureLimits{})
				d, _ := draw(t, pictures, drawCat)
				path := filepath.Join(dir, store.BlobName(d.SHA256))
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				tc.hurt(t, path, bytes.Clone(data))
				if tc.read != nil {
					if _, err := pictures.Picture(d.SHA256).Bytes(t.Context()); !errors.Is(err, tc.read) {
						t.Errorf("reading it: %v", err)
					}
				}
				again, usage := draw(t, pictures, drawCat)
				if usage != paid || (again == d) != same {
					t.Errorf("drew %+v for %+v", again, usage)
				}
				if got, usage := draw(t, pictures, drawCat); usage != kept || got != again {
					t.Errorf("then the log has %+v for %+v", got, usage)
				}
				if _, err := pictures.Picture(again.SHA256).Bytes(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestBadPicturesAreNotKept(t *testing.T) {
	sound := paint(8, 6, color.RGBA{B: 90, A: 255})
	for name, data := range map[string][]byte{
		"empty": {}, "a page": []byte("<html>"), "cut off": sound[:len(sound)-20], "too large": paint(11, 10, color.RGBA{B: 90, A: 255}),
	} {
		t.Run(name, func(t *testing.T) {
			st := local(t, t.TempDir())
			log := open(t, st)
			inner := &painter{data: data}
			pictures := responselog.Pictures(inner, log, model.PictureLimits{MaxPixels: 100})
			_, usage, err := pictures.Draw(t.Context(), drawCat)
			if !errors.Is(err, model.ErrBadPicture) || !errors.Is(err, model.ErrRejected) || usage != paid {
				t.Errorf("used %+v: %v", usage, err)
			}
			if left := names(t, st, ""); len(left) != 0 || log.Stats().Calls != 0 {
				t.Errorf("it left %q", left)
			}
			inner.data = sound
			if _, usage := draw(t, pictures, drawCat); usage != paid {
				t.Errorf("the next one: %+v", usage)
			}
		})
	}
	inner := &painter{err: model.ErrUnavailable}
	_, usage, err := responselog.Pictures(inner, open(t, local(t, t.TempDir())), model.PictureLimits{}).Draw(t.Context(), drawCat)
	if !errors.Is(err, model.ErrUnavailable) || errors.Is(err, model.ErrRejected) || usage != paid {
		t.Errorf("the model's error: %v, used %+v", err, usage)
	}
}

func TestOnePictureForManyWhoAskAtOnce(t *testing.T) {
	inner := &painter{}
	pictures := responselog.Pictures(inner, open(t, local(t, t.TempDir())), model.PictureLimits{})
	var calls atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, usage, err := pictures.Draw(t.Context(), drawCat)
			if err != nil || usage.Calls+usage.CacheHits != 1 {
				t.Errorf("%+v, %v", usage, err)
			}
			calls.Add(int64(usage.Calls))
		})
	}
	wg.Wait()
	if inner.calls.Load() != 1 || calls.Load() != 1 {
		t.Errorf("%d calls, %d counted", inner.calls.Load(), calls.Load())
	}
}

// critic scores a picture by the number of requests so far, and notes how many came at once.
type critic struct {
	seen    float64
	batches []int
	err     error
	short   bool
}

func (c *critic) Info() model.Info { return model.Info{Name: "critic", Weights: "c1"} }

func (c *critic) Score(_ context.Context, reqs []model.ScoreRequest) ([]float64, error) {
	c.batches = append(c.batches, len(reqs))
	var scores []float64
	for range reqs {
		c.seen++
		scores = append(scores, c.seen+.25)
	}
	if c.short {
		scores = scores[1:]
	}
	return scores, c.err
}

func TestScores(t *testing.T) {
	st := local(t, t.TempDir())
	inner := &critic{}
	log := open(t, st)
	var scorer model.Scorer = responselog.Scores(inner, log)
	of := func(pairs ...string) (reqs []model.ScoreRequest) {
		for _, p := range pairs {
			reqs = append(reqs, model.ScoreRequest{Text: p[:1], Picture: model.Picture{SHA256: p[1:]}})
		}
		return reqs
	}
	for i, step := range []struct {
		reqs    []model.ScoreRequest
		want    []float64
		batches []int
	}{
		{of("a1", "a2"), []float64{1.25, 2.25}, []int{2}},
		{of("b1", "a2", "a3", "b1"), []float64{3.25, 2.25, 4.25, 3.25}, []int{2}},
		{of("a1", "a2", "a3", "b1"), []float64{1.25, 2.25, 4.25, 3.25}, nil},
		{nil, []float64{}, nil},
	} {
		inner.batches = nil
		got, err := scorer.Score(t.Context(), step.reqs)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(step.want) || fmt.Sprint(inner.batches) != fmt.Sprint(step.batches) {
			t.Errorf("step %d: %v from batches %v, %v; want %v from %v", i, got, inner.batches, err, step.want, step.batches)
		}
	}
	shut(t, log)
	again := responselog.Scores(inner, open(t, st))
	got, usage, err := again.ScoreUsage(t.Context(), of("b1", "c9", "b1"))
	if err != nil || fmt.Sprint(got) != "[3.25 5.25 3.25]" || usage != (model.Usage{Calls: 1, CacheHits: 2}) {
		t.Errorf("reopened: %v, %+v, %v", got, usage, err)
	}
	inner.err = model.ErrUnavailable
	if _, err := again.Score(t.Context(), of("b1", "d1")); !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("the scorer's error: %v", err)
	}
	inner.err, inner.short = nil, true
	if _, err := again.Score(t.Context(), of("d1", "d2")); err == nil {
		t.Error("one score for two requests is taken")
	}
	if again.Info() != inner.Info() {
		t.Errorf("info %+v", again.Info())
	}
}
