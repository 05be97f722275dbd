package imagegen_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

const runSeed = 5

// painter does what the text says: "black 2 cat" is black at its first two attempts. Else the picture
// depends on text and seed only.
type painter struct {
	attempts sync.Map // of a seed
	calls    atomic.Int64
}

var thePainter painter

func init() {
	model.Register("test-painter", model.Backend{Images: func(context.Context, model.Spec) (model.Images, error) { return &thePainter, nil }})
}

func (*painter) Info() model.Info {
	return model.Info{Name: "test painter", Weights: "painter-weights", Deterministic: true}
}

func (p *painter) Draw(_ context.Context, req model.ImageRequest) (model.ImageResponse, error) {
	p.calls.Add(1)
	attempt, ok := p.attempts.Load(req.Seed)
	if !ok {
		return model.ImageResponse{}, fmt.Errorf("seed %d belongs to no attempt", req.Seed)
	}
	var what, name string
	var times int
	if _, err := fmt.Sscan(req.Prompt, &what, &times, &name); err != nil || attempt.(int) >= times {
		what = ""
	}
	img := image.NewRGBA(image.Rect(0, 0, req.Width, req.Height))
	sum := crc32.ChecksumIEEE(fmt.Append(nil, req.Prompt, req.Seed))
	for i := range img.Pix {
		img.Pix[i] = byte(sum>>(8*(i%3))) | 128
	}
	resp := model.ImageResponse{Usage: model.Usage{Calls: 1}}
	switch what {
	case "black":
		for x := range req.Width {
			for y := range req.Height {
				img.Set(x, y, color.Black)
			}
		}
	case "flagged":
		resp.Flagged = true
	case "bad":
		resp.Data = []byte("<html>busy</html>")
		return resp, nil
	case "huge":
		img = image.NewRGBA(image.Rect(0, 0, 128, 128))
	case "rejected":
		return resp, fmt.Errorf("400: %w", model.ErrRejected)
	case "down":
		return resp, fmt.Errorf("503: %w", model.ErrUnavailable)
	case "misconfigured":
		return resp, fmt.Errorf("401: %w", model.ErrConfig)
	case "unknown":
		return resp, errors.New("disk full")
	}
	var buf bytes.Buffer
	err := png.Encode(&buf, img)
	resp.Data = buf.Bytes()
	return resp, err
}

func config(t testing.TB) imagegen.Config {
	cfg := imagegen.DefaultConfig()
	cfg.Model = model.Spec{Backend: "test-painter"}
	cfg.Cache = transformtest.Cache(t)
	cfg.Width, cfg.Height, cfg.MaxPixels, cfg.Seed = 8, 8, 64*64, runSeed
	return cfg
}

func slate(raw string, candidates ...string) schemas.Slate {
	s := schemas.Slate{Prompt: schemas.Prompt{ID: schemas.PromptID(raw), Text: raw}}
	for i, text := range candidates {
		s.Candidates = append(s.Candidates, schemas.Candidate{ID: schemas.CandidateID(s.Prompt.ID, text), PromptID: s.Prompt.ID, Index: int32(i), Text: text})
	}
	return s
}

type rows = transformtest.Rows[schemas.Slate]

func run(cfg imagegen.Config, in []schemas.Slate) (rows, error) {
	for _, s := range in {
		for attempt := range 8 {
			thePainter.attempts.Store(schemas.Seed(runSeed, "draw", s.Prompt.ID, attempt), attempt)
		}
	}
	return transformtest.Run[schemas.Slate](imagegen.Draw, cfg, in)
}

func TestDraw(t *testing.T) {
	for _, tt := range []struct {
		name   string
		in     schemas.Slate
		raw    string   // attempt of the raw picture, "" for none
		images []string // attempt of each candidate's
		dead   []string // "stage reason attempts"
		extra  int
	}{
		{name: "plain", in: slate("cat", "a cat", "the cat"), raw: "0", images: []string{"0", "0"}},
		{name: "no candidate", in: slate("cat")},
		{name: "black once", in: slate("cat", "black 1 cat", "a cat"), raw: "0", images: []string{"1", "0"}},
		{name: "flagged twice", in: slate("flagged 2 cat", "a cat"), raw: "2", images: []string{"0"}},
		{name: "black", in: slate("cat", "black 3 cat", "a cat"), raw: "0", images: []string{"", "0"}, dead: []string{"draw black 3"}},
		{name: "flagged", in: slate("cat", "flagged 3 cat"), raw: "0", images: []string{""}, dead: []string{"draw flagged 3"}},
		{name: "flagged with one more", in: slate("cat", "flagged 3 cat"), raw: "0", images: []string{"3"}, extra: 1},
		{name: "bad", in: slate("cat", "bad 1 cat"), raw: "0", images: []string{""}, dead: []string{"draw bad_picture 1"}},
		{name: "too large", in: slate("cat", "huge 1 cat"), raw: "0", images: []string{""}, dead: []string{"draw bad_picture 1"}},
		{name: "rejected", in: slate("cat", "rejected 1 cat"), raw: "0", images: []string{""}, dead: []string{"draw rejected 1"}},
		{name: "down", in: slate("cat", "down 1 cat"), raw: "0", images: []string{""}, dead: []string{"draw unavailable 1"}},
		{
			name: "no raw picture", in: slate("black 3 cat", "a cat", "down 1 cat"), images: []string{"", ""},
			dead: []string{"draw raw_picture_missing 1", "draw raw_picture_missing 1", "draw_raw black 3"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t)
			cfg.ExtraAttempts = tt.extra
			got, err := run(cfg, []schemas.Slate{tt.in})
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Rows) != 1 || got.Rows[0].Prompt != tt.in.Prompt || len(got.Rows[0].Candidates) != len(tt.in.Candidates) {
				t.Fatalf("slates %+v", got.Rows)
			}
			out := got.Rows[0]
			if a := attemptOf(t, out.Prompt, out.Raw); a != tt.raw {
				t.Errorf("raw picture at attempt %q, want %q", a, tt.raw)
			}
			var images, dead []string
			for _, c := range out.Candidates {
				images = append(images, attemptOf(t, out.Prompt, c.Image))
			}
			for _, r := range got.Rejected {
				dead = append(dead, fmt.Sprint(r.Stage, " ", r.Reason, " ", r.Attempts))
				var payload schemas.Prompt
				if err := json.Unmarshal([]byte(r.Payload), &payload); err != nil || payload != tt.in.Prompt {
					t.Errorf("dead letter %+v cannot be run again: %v", r, err)
				}
			}
			slices.Sort(dead)
			if d := cmp.Diff(tt.images, images); d != "" {
				t.Error("images", d)
			}
			if d := cmp.Diff(tt.dead, dead); d != "" {
				t.Error("dead", d)
			}
		})
	}
}

// attemptOf checks a reference and returns its attempt, "" for none.
func attemptOf(t *testing.T, p schemas.Prompt, ref schemas.ImageRef) string {
	t.Helper()
	if ref == (schemas.ImageRef{}) {
		return ""
	}
	if len(ref.SHA256) != 64 || ref.Width != 8 || ref.Height != 8 || ref.Seed != schemas.Seed(runSeed, "draw", p.ID, int(ref.Attempt)) {
		t.Errorf("reference %+v", ref)
	}
	return fmt.Sprint(ref.Attempt)
}

// A candidate that repeats the raw prompt shares its picture, which is drawn once.
func TestEqualTextIsDrawnOnce(t *testing.T) {
	before := thePainter.calls.Load()
	got, err := run(config(t), []schemas.Slate{slate("cat", "cat", "a cat")})
	if err != nil {
		t.Fatal(err)
	}
	s := got.Rows[0]
	if s.Raw != s.Candidates[0].Image || s.Raw == s.Candidates[1].Image {
		t.Errorf("slate %+v", s)
	}
	if n := thePainter.calls.Load() - before; n != 2 {
		t.Errorf("%d drawn, want 2", n)
	}
}

func manySlates() []schemas.Slate {
	in := []schemas.Slate{
		slate("nothing"), slate("black 3 cat", "a cat", "the cat"), slate("flagged 1 cat", "a cat"), slate("down 1 cat", "a cat"),
		slate("cat", "black 1 cat", "black 3 cat", "flagged 3 cat", "bad 1 cat", "rejected 1 cat", "down 1 cat", "cat"),
	}
	for i := range 40 {
		in = append(in, slate(fmt.Sprint("house ", i), "a house", "the house", fmt.Sprint("house of ", i)))
	}
	return in
}

func TestLedger(t *testing.T) {
	got, err := run(config(t), manySlates())
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]int64{"rejected": int64(len(got.Rejected)), "prompts": int64(len(got.Rows))}
	for _, s := range got.Rows {
		for _, c := range s.Candidates {
			written["candidates"]++
			if c.Image.SHA256 != "" {
				written["pictures"]++
			}
		}
	}
	if err := ledger.Check(got.Counts, written, []string{
		"draw.in = rows.candidates", "draw.out = rows.pictures", "*.dead = rows.rejected", "rows.prompts = 45",
		"draw_raw.in = 44", "draw_raw.dead = 2", "draw.dead = 8", // 3 without a raw picture, 5 of their own
	}); err != nil {
		t.Error(err)
	}
	for _, stage := range []string{"draw", "draw_raw"} {
		if !slices.ContainsFunc(got.Counts, func(c schemas.Count) bool { return c.Stage == stage && c.Reason == "calls" && c.N >= 40 }) {
			t.Errorf("no calls of %s in %v", stage, got.Counts)
		}
	}
}

func TestDeterminism(t *testing.T) {
	transformtest.Deterministic(t, func(cfg imagegen.Config, in []schemas.Slate) (rows, error) {
		got, err := run(cfg, in)
		got.Counts = got.Fates() // a candidate that repeats the raw prompt makes an equal request
		return got, err
	}, config(t), manySlates(), &thePainter.calls, 4) // only what was no picture: two down, one rejected, one bad
}

func TestExtraAttempts(t *testing.T) {
	in := []schemas.Slate{slate("cat", "flagged 3 cat", "black 3 cat", "a cat")}
	before, after := transformtest.ExtraAttempts(t, run, config(t), in, &thePainter.calls, 2)
	if len(before.Rejected) != 2 || after.Rows[0].Candidates[0].Image.Attempt != 3 || after.Rows[0].Candidates[2].Image.Attempt != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestFailsBundle(t *testing.T) {
	for text, want := range map[string]string{"misconfigured 1 cat": "misconfigured", "unknown 1 cat": "disk full"} {
		_, err := run(config(t), []schemas.Slate{slate("cat", "a cat", text)})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), schemas.PromptID("cat")) {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	cfg := imagegen.Config{
		Model: model.Spec{Backend: "b"}, Cache: "c", Width: 64, Height: 32, Steps: 1, Guidance: 2, Scheduler: "ddim",
		NegativePrompt: "n", Attempts: 3, ExtraAttempts: 4, MaxPixels: 5000, Seed: 6, InFlight: 7,
	}
	transformtest.RoundTrip(t, cfg)
}

func TestValidate(t *testing.T) {
	err := imagegen.Config{Width: 30, Height: 5000, Guidance: -1, ExtraAttempts: -1, MaxPixels: 1}.Validate()
	if err == nil {
		t.Fatal("an empty Config is valid")
	}
	for _, field := range []string{"model.backend", "cache", "width", "height", "steps", "guidance", "attempts", "extra_attempts", "max_pixels", "in_flight"} {
		if !strings.Contains("\n"+err.Error(), "\nimagegen."+field+": ") {
			t.Errorf("no fault for %s in\n%v", field, err)
		}
	}
}

func ExampleDraw() {
	p, s := beam.NewPipelineWithRoot()
	slates := beam.CreateList(s, []schemas.Slate{{
		Prompt:     schemas.Prompt{ID: schemas.PromptID("a cat"), Text: "a cat"},
		Candidates: []schemas.Candidate{{Text: "a cat on a red sofa, soft light"}},
	}})
	cfg := imagegen.DefaultConfig()
	cfg.Model = model.Spec{Backend: "openai", Endpoint: "http://localhost:8001/v1", Model: "sd"}
	cfg.Cache = "cache"
	drawn, rejected, counts := imagegen.Draw(s, cfg, slates)
	_, _, _, _ = p, drawn, rejected, counts
}
