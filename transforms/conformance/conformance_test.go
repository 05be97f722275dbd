package conformance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/conformance"
)

func say(role, text string) schemas.Message { return schemas.Message{Role: role, Content: text} }

// words counts white-space separated words and one for each role. It refuses poems.
func words(row dataset.Row) (counts []int, err error) {
	prompt, answers := row.Turns()
	for _, answer := range answers {
		n := 0
		for _, m := range slices.Concat(prompt, answer) {
			if strings.HasPrefix(m.Content, "poem") {
				return nil, fmt.Errorf("%w: no poems", model.ErrRejected)
			}
			n += len(strings.Fields(m.Content)) + 1
		}
		counts = append(counts, n)
	}
	return counts, nil
}

func pair(id string, change func(*schemas.PreferencePair)) schemas.PreferencePair {
	p := schemas.PreferencePair{
		ID: id, Prompt: []schemas.Message{say("user", "Rewrite: a cat")},
		Chosen: []schemas.Message{say("assistant", "a fluffy cat")}, Rejected: []schemas.Message{say("assistant", "cat")},
	}
	if change != nil {
		change(&p)
	}
	return p
}

// want is "row reason" for each fault, in order.
func checkFaults(t *testing.T, name string, r conformance.Report, want ...string) {
	t.Helper()
	var got []string
	for _, f := range r.Faults {
		got = append(got, f.ID+" "+f.Reason)
		if f.Detail == "" || f.File == "" {
			t.Errorf("%s: a fault without a file or a detail: %+v", name, f)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: faults %q; want %q\n%+v", name, got, want, r.Faults)
	}
	err := r.Err()
	if (err != nil) != (len(want) > 0) || err != nil && !errors.Is(err, conformance.ErrFaulty) {
		t.Errorf("%s: Err is %v", name, err)
	}
	for _, f := range r.Faults[:min(len(r.Faults), 10)] {
		if !strings.Contains(err.Error(), f.String()) {
			t.Errorf("%s: the error does not name %s: %v", name, f, err)
		}
	}
}

func TestPairs(t *testing.T) {
	long := strings.Repeat("very ", 30)
	data := modeltest.Shard(t,
		pair("good", nil),
		pair("system", func(p *schemas.PreferencePair) {
			p.Prompt = []schemas.Message{say("system", "Be brief."), say("user", "a"), say("assistant", "b"), say("user", "c")}
		}),
		pair("equal", func(p *schemas.PreferencePair) { p.Rejected = []schemas.Message{say("assistant", " a fluffy cat\n")} }),
		pair("blank", func(p *schemas.PreferencePair) { p.Chosen[0].Content = " \n" }),
		pair("swapped", func(p *schemas.PreferencePair) {
			p.Prompt = []schemas.Message{say("user", "a"), say("system", "b")}
		}),
		pair("ends", func(p *schemas.PreferencePair) { p.Prompt = append(p.Prompt, say("assistant", "b")) }),
		pair("nothing", func(p *schemas.PreferencePair) { p.Prompt = nil }),
		pair("turns", func(p *schemas.PreferencePair) { p.Rejected = append(p.Rejected, say("user", "why?")) }),
		pair("long prompt", func(p *schemas.PreferencePair) { p.Prompt[0].Content = long }),
		pair("long answer", func(p *schemas.PreferencePair) { p.Rejected[0].Content = long }),
		pair("image", func(p *schemas.PreferencePair) { p.Prompt[0].Content = "<image> which?" }),
		pair("poem", func(p *schemas.PreferencePair) { p.Prompt[0].Content = "poem" }),
		pair("two poems", func(p *schemas.PreferencePair) { p.Chosen[0].Content, p.Rejected[0].Content = "poem", "poem" }),
	)
	cfg := conformance.DefaultConfig(model.MethodDPO)
	cfg.ContextWindow = 30
	r, err := conformance.Check(t.Context(), cfg, words, []string{data})
	if err != nil {
		t.Fatal(err)
	}
	checkFaults(t, "pairs", r, "equal equal", "blank empty", "swapped roles", "ends roles", "nothing roles", "turns roles",
		"long prompt length", "long answer length", "image images", "poem template", "two poems equal")
	if r.Rows != 13 || r.Faulty != 11 || r.Counts[conformance.Roles] != 4 {
		t.Errorf("%d rows, %d faulty, counts %v", r.Rows, r.Faulty, r.Counts)
	}
	cfg.MaxListed = 1
	if r, err = conformance.Check(t.Context(), cfg, words, []string{data}); err != nil || len(r.Faults) != 1 || r.Faulty != 11 {
		t.Errorf("with one listed: %v, %+v", err, r)
	}
}

func TestPictures(t *testing.T) {
	bytes, err := modeltest.Picture(t, 8, 8, 3).Bytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good := schemas.Image{Bytes: bytes, Path: "a.png"}
	row := func(id, text string, images ...schemas.Image) schemas.VisionChatExample {
		return schemas.VisionChatExample{ID: id, Messages: []schemas.Message{say("user", text), say("assistant", "1")}, Images: images}
	}
	data := modeltest.Shard(t,
		row("implied", "which?", good, good), row("explicit", "<image> or <image>?", good, good), row("text", "hello"),
		row("short", "<image> or <image>?", good), row("none", "<image>?"), row("empty", "which?", schemas.Image{}),
		row("broken", "which?", schemas.Image{Bytes: bytes[:20]}))
	for placeholders, want := range map[string][]string{
		conformance.Either:   {"short images", "none images", "empty picture", "broken picture"},
		conformance.Implied:  {"explicit images", "short images", "none images", "empty picture", "broken picture"},
		conformance.Explicit: {"implied images", "short images", "none images", "empty images", "empty picture", "broken images", "broken picture"},
	} {
		cfg := conformance.DefaultConfig(model.MethodSFT)
		cfg.Placeholders = placeholders
		r, err := conformance.Check(t.Context(), cfg, nil, []string{data})
		if err != nil {
			t.Fatal(err)
		}
		checkFaults(t, placeholders, r, want...)
	}
	cfg := conformance.DefaultConfig(model.MethodSFT)
	cfg.ContextWindow, cfg.ImageTokens = 20, 10
	r, err := conformance.Check(t.Context(), cfg, words, []string{modeltest.Shard(t, row("two", "which?", good, good), row("one", "which?", good))})
	if err != nil {
		t.Fatal(err)
	}
	checkFaults(t, "with image tokens", r, "two length")
}

func TestFiles(t *testing.T) {
	pairs := modeltest.Shard(t, pair("1", nil))
	chat := modeltest.Shard(t, schemas.ChatExample{ID: "c", Messages: []schemas.Message{say("user", "a"), say("assistant", "b")}})
	prompts := modeltest.Shard(t, schemas.Prompt{ID: "p", Text: "a cat"})
	for name, c := range map[string]struct {
		method string
		urls   []string
		want   []string
	}{
		"method":        {model.MethodSFT, []string{pairs}, []string{"1 method"}},
		"other columns": {model.MethodDPO, []string{prompts, pairs}, []string{" columns"}},
		"other shape":   {model.MethodDPO, []string{pairs, chat, pairs}, []string{" columns"}},
		"good":          {model.MethodSFT, []string{chat, chat}, nil},
	} {
		r, err := conformance.Check(t.Context(), conformance.DefaultConfig(c.method), nil, c.urls)
		if err != nil {
			t.Fatal(err)
		}
		checkFaults(t, name, r, c.want...)
	}
	if _, err := conformance.Check(t.Context(), conformance.DefaultConfig("sft"), nil, []string{t.TempDir() + "/no.parquet"}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if r, err := conformance.Check(t.Context(), conformance.DefaultConfig("sft"), nil, nil); err != nil || !errors.Is(r.Err(), conformance.ErrFaulty) {
		t.Errorf("no rows: %v, %v; want ErrFaulty", err, r.Err())
	}
}

func TestConfig(t *testing.T) {
	bad := conformance.Config{Method: "ppo", Placeholders: "some", ContextWindow: -1, ImageTokens: -1}
	err := bad.Validate()
	for _, path := range []string{"method", "placeholders", "context_window", "image_tokens", "max_listed"} {
		if err == nil || !strings.Contains(err.Error(), "conformance."+path+": ") {
			t.Errorf("no fault at conformance.%s: %v", path, err)
		}
	}
	full := conformance.Config{Method: "dpo", Placeholders: "implied", ContextWindow: 1, ImageTokens: 2, MaxListed: 3}
	var back conformance.Config
	data, err := json.Marshal(full)
	if err := errors.Join(err, json.Unmarshal(data, &back)); err != nil || !reflect.DeepEqual(full, back) {
		t.Errorf("%+v comes back as %+v: %v", full, back, err)
	}
}
