// Package report shows people what is in a snapshot: one HTML page without scripts or outside files, pictures
// included, that can be sent to a colleague.
package report

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A page is what page.html shows.
type page struct {
	Manifest snapshot.Manifest
	Stages   []stage
	Shown    []pair
	Pairs    int
}

// A stage is a line of the ledger.
type stage struct {
	Name                    string
	In, Out, Filtered, Dead int64
	Reasons                 string
}

// A pair is a preference pair with its three pictures.
type pair struct {
	schemas.PreferencePair
	Prompt                string
	ChosenText, WorstText string
	Raw, Best, Worst      drawing
}

// A drawing is a picture as a data URL, "" if it cannot be read. A tiny one is shown larger than it is, and shows its pixels.
type drawing struct {
	URL  template.URL
	Tiny bool
}

//go:embed page.html
var text string

var layout = template.Must(template.New("page").Parse(text))

// Preference writes a page about a preference snapshot of st to w: its ledger, and limit of its pairs with the
// pictures, evenly chosen from the widest margin to the narrowest. The pictures are read from the store cache; one
// that is not there leaves a gap.
func Preference(ctx context.Context, w io.Writer, st, cache store.Store, m snapshot.Manifest, limit int) error {
	p := page{Manifest: m, Stages: stages(m.Counts), Pairs: int(m.Rows["rewrite"])}
	var pairs []schemas.PreferencePair
	if err := rows(ctx, st, m, "rewrite", func(r schemas.PreferencePair) error {
		pairs = append(pairs, r)
		return nil
	}); err != nil {
		return err
	}
	slices.SortFunc(pairs, func(a, b schemas.PreferencePair) int {
		return cmp.Or(cmp.Compare(b.Margin, a.Margin), cmp.Compare(a.ID, b.ID))
	})
	pairs = spread(pairs, limit)
	candidates, raw := map[string]schemas.Candidate{}, map[string]string{}
	for _, r := range pairs {
		candidates[r.ChosenID], candidates[r.RejectedID] = schemas.Candidate{}, schemas.Candidate{}
	}
	if err := rows(ctx, st, m, "candidates", func(c schemas.Candidate) error {
		if _, wanted := candidates[c.ID]; wanted {
			candidates[c.ID] = c
		}
		return nil
	}); err != nil {
		return err
	}
	if err := rows(ctx, st, m, "judgments", func(j schemas.Judgment) error {
		if _, wanted := candidates[j.CandidateID]; wanted {
			raw[j.PromptID] = j.Image1
		}
		return nil
	}); err != nil {
		return err
	}
	for _, r := range pairs {
		best, worst := candidates[r.ChosenID], candidates[r.RejectedID]
		p.Shown = append(p.Shown, pair{
			PreferencePair: r, Prompt: r.Prompt[len(r.Prompt)-1].Content, ChosenText: best.Text, WorstText: worst.Text,
			Raw: picture(ctx, cache, raw[r.PromptID]), Best: picture(ctx, cache, best.Image.SHA256), Worst: picture(ctx, cache, worst.Image.SHA256),
		})
	}
	// Whole or not at all: a page that ends in the middle looks like one with few pairs.
	var b bytes.Buffer
	if err := layout.Execute(&b, p); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

func rows[T schemas.Row](ctx context.Context, st store.Store, m snapshot.Manifest, config string, fn func(T) error) error {
	if err := parquetio.Rows(ctx, st, schemas.ShardsOf(m.Shards, config), fn); err != nil {
		return fmt.Errorf("report: read %s of run %s: %w", config, m.RunID, err)
	}
	return nil
}

// spread takes limit elements at even distances, the first and the last among them.
func spread[T any](all []T, limit int) []T {
	if len(all) <= limit || limit < 2 {
		return all[:min(len(all), max(limit, 0))]
	}
	out := make([]T, limit)
	for i := range out {
		out[i] = all[i*(len(all)-1)/(limit-1)]
	}
	return out
}

// shownAs is the width that the page gives a picture, in pixels.
const shownAs = 256

func picture(ctx context.Context, cache store.Store, sha string) drawing {
	data, err := store.GetBlob(ctx, cache, sha)
	if err != nil {
		return drawing{}
	}
	info, err := model.Measure(data, model.PictureLimits{})
	if err != nil {
		return drawing{}
	}
	return drawing{template.URL("data:image/" + info.Format + ";base64," + base64.StdEncoding.EncodeToString(data)), info.Width < shownAs}
}

// flow is the order in which rows pass the stages of a preference job and those before it.
var flow = []string{"source", "heldout", "dedup", "rewrite", "draw_raw", "draw", "judge", "score", "prefer"}

// Place is where a stage stands in the order in which rows pass the stages: behind all if it does not.
func Place(stage string) int {
	if i := slices.Index(flow, stage); i >= 0 {
		return i
	}
	return len(flow)
}

func stages(counts []schemas.Count) []stage {
	var out []stage
	for _, c := range counts {
		i := slices.IndexFunc(out, func(s stage) bool { return s.Name == c.Stage })
		if i < 0 {
			out = append(out, stage{
				Name: c.Stage, In: ledger.Total(counts, c.Stage, schemas.In), Out: ledger.Total(counts, c.Stage, schemas.Out),
				Filtered: ledger.Total(counts, c.Stage, schemas.Filtered), Dead: ledger.Total(counts, c.Stage, schemas.Dead),
			})
			i = len(out) - 1
		}
		if c.Outcome == schemas.Filtered || c.Outcome == schemas.Dead {
			out[i].Reasons = strings.TrimPrefix(fmt.Sprintf("%s, %s %d", out[i].Reasons, c.Reason, c.N), ", ")
		}
	}
	slices.SortStableFunc(out, func(a, b stage) int { return cmp.Compare(Place(a.Name), Place(b.Name)) })
	return slices.DeleteFunc(out, func(s stage) bool { return s.In == 0 && s.Out == 0 })
}
