package metrics

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/deadletter"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[measureFn]())
	beam.RegisterDoFn(reflect.TypeFor[fixedFn]())
	register.Emitter1[schemas.Measurement]()
	register.Emitter1[schemas.Slate]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
	parquetio.Register[schemas.Measurement]()
}

// Stages in the ledger and in dead letters: the unit of both is the text.
const (
	StageFixed   = "fixed"
	StageMeasure = "measure"
)

// tags are the paper's combinations of common tags (Table 7).
var tags = [...]string{
	"artstation, highly detailed, elegant",
	"8k, trending on artstation, concept art",
	"digital painting, intricate, fantasy",
	"illustration, smooth, fantasy",
	"portrait, beautiful, illustration",
	"realistic, dramatic, high quality",
}

// FixedSystems are the systems that need no model: the raw prompt as it is, and with each of the tags.
func FixedSystems() []string {
	out := []string{"original"}
	for i := range tags {
		out = append(out, fmt.Sprintf("tags%d", i+1))
	}
	return out
}

// fixedTexts makes a slate of each prompt with a candidate for each of FixedSystems.
func fixedTexts(s beam.Scope, prompts beam.PCollection) (slates, counts beam.PCollection) {
	return beam.ParDo2(s, &fixedFn{}, prompts)
}

type fixedFn struct{ tally ledger.Tally }

func (fn *fixedFn) StartBundle(func(schemas.Slate), func(schemas.Count)) { fn.tally.Reset() }

func (fn *fixedFn) FinishBundle(_ func(schemas.Slate), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *fixedFn) ProcessElement(p schemas.Prompt, emit func(schemas.Slate), _ func(schemas.Count)) {
	texts := []string{p.Text}
	for _, t := range tags {
		texts = append(texts, p.Text+", "+t)
	}
	slate := schemas.Slate{Prompt: p}
	for i, text := range texts {
		slate.Candidates = append(slate.Candidates, schemas.Candidate{ID: schemas.CandidateID(p.ID, text), PromptID: p.ID, Index: int32(i), Text: text})
	}
	fn.tally.In(StageFixed, len(texts))
	fn.tally.Out(StageFixed, len(texts))
	emit(slate)
}

// measureFn makes a row of each candidate of a slate, with the scores of its picture.
type measureFn struct {
	// Systems name the candidates by their index.
	Systems  []string
	Decoding string
	Draw     int32
	Scorers  []recipe.Scorer
	// Ratio, if it is there, compares the policy with another one.
	Ratio *ratio
	// Cache is the URL of the store with the pictures and the response log.
	Cache string

	pictures store.Store
	scorers  []*responselog.ScoreLog
	tally    ledger.Tally
}

func (fn *measureFn) Setup(ctx context.Context) error {
	if fn.Ratio != nil {
		if err := fn.Ratio.open(ctx); err != nil {
			return fmt.Errorf("metrics: %s: %w", KL, err)
		}
	}
	if len(fn.Scorers) == 0 {
		return nil
	}
	log, err := responselog.Open(ctx, fn.Cache)
	if err == nil {
		fn.pictures, err = store.Open(ctx, fn.Cache)
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	fn.scorers = nil
	for _, s := range fn.Scorers {
		scorer, err := model.OpenScorer(ctx, s.Model)
		if err != nil {
			return fmt.Errorf("metrics: %s: %w", s.Name, err)
		}
		fn.scorers = append(fn.scorers, responselog.Scores(scorer, log))
	}
	return nil
}

func (fn *measureFn) StartBundle(context.Context, func(schemas.Measurement), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *measureFn) FinishBundle(_ context.Context, _ func(schemas.Measurement), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *measureFn) ProcessElement(ctx context.Context, slate schemas.Slate, emit func(schemas.Measurement), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	var rows []schemas.Measurement
	for _, c := range slate.Candidates {
		if len(fn.Scorers) > 0 && c.Image.SHA256 == "" {
			continue // dead since it was drawn
		}
		system := fn.Systems[c.Index]
		rows = append(rows, schemas.Measurement{
			ID: schemas.MeasurementID(system, fn.Decoding, slate.Prompt.ID, fn.Draw), PromptID: slate.Prompt.ID,
			System: system, Decoding: fn.Decoding, Draw: fn.Draw, Text: c.Text, Policy: c.Policy, Image: c.Image,
		})
	}
	fn.tally.In(StageMeasure, len(rows))
	if err := fn.score(ctx, slate.Prompt.Text, rows); err != nil {
		reason, fatal := deadletter.Reason(ctx, err)
		if fatal != nil {
			return fmt.Errorf("metrics: prompt %s: %w", slate.Prompt.ID, fatal)
		}
		fn.tally.Dead(StageMeasure, reason, len(rows))
		for _, r := range rows {
			reject(deadletter.Row(StageMeasure, r.ID, reason, 1, err.Error(), slate.Prompt))
		}
		return nil
	}
	fn.tally.Out(StageMeasure, len(rows))
	for _, r := range rows {
		emit(r)
	}
	return nil
}

// score adds the scores of all measures to the rows of one prompt, one batch a measure.
func (fn *measureFn) score(ctx context.Context, prompt string, rows []schemas.Measurement) error {
	reqs := make([]model.ScoreRequest, len(rows))
	for i, r := range rows {
		sha := r.Image.SHA256
		reqs[i] = model.ScoreRequest{Text: prompt, Picture: model.Picture{SHA256: sha, Bytes: func(ctx context.Context) ([]byte, error) {
			return store.GetBlob(ctx, fn.pictures, sha)
		}}}
	}
	for k, scorer := range fn.scorers {
		if len(reqs) == 0 {
			break
		}
		values, usage, err := scorer.ScoreUsage(ctx, reqs)
		fn.tally.Spent(StageMeasure, usage)
		if err != nil {
			return fmt.Errorf("%s: %w", fn.Scorers[k].Name, err)
		}
		for i, v := range values {
			rows[i].Scores = append(rows[i].Scores, schemas.Metric{Name: fn.Scorers[k].Name, Value: v})
		}
	}
	for i := range rows {
		if fn.Ratio == nil {
			break
		}
		v, err := fn.Ratio.of(ctx, prompt, rows[i].Text)
		if err != nil {
			return fmt.Errorf("%s: %w", KL, err)
		}
		rows[i].Scores = append(rows[i].Scores, schemas.Metric{Name: KL, Value: v})
	}
	return nil
}
