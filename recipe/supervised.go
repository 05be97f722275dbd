package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/audit"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/template"
)

// SFT are the settings of the supervised set.
type SFT struct {
	// ValidationPermille of the raw prompts, by hash, are the validation split.
	ValidationPermille int `json:"validation_permille" yaml:"validation_permille"`
	// Parts of the set: rewrite, evaluation, judgment.
	Parts []string `json:"parts,omitempty" yaml:"parts"`
	// RewriteRows is how many rows the first part has; 0 takes all. Those of the others are in their sections.
	RewriteRows int64 `json:"rewrite_rows,omitzero" yaml:"rewrite_rows"`
}

// Has says whether a task is a part of the set.
func (s SFT) Has(task string) bool { return slices.Contains(s.Parts, task) }

// Mixed says that the set is more than all the pairs there are.
func (s SFT) Mixed() bool {
	return s.RewriteRows > 0 || len(s.Parts) != 1 || s.Parts[0] != schemas.TaskRewrite
}

// Audit says which facts a judge is asked about.
type Audit struct {
	// Facts are the sources; rows is how many facts of each to ask about.
	Facts []evaluation.Part `json:"facts" yaml:"facts"`
	// Validation is the part of the sources on which the difference of scores that is a tie is chosen.
	Validation  string  `json:"validation" yaml:"validation"`
	Temperature float64 `json:"temperature" yaml:"temperature"`
	TopP        float64 `json:"top_p" yaml:"top_p"`
	MaxTokens   int     `json:"max_tokens" yaml:"max_tokens"`
	InFlight    int     `json:"in_flight" yaml:"in_flight"`
}

// bindSupervised hands the sections evaluation, teacher, judgment and audit what they share. The teacher is asked in the
// words in which its rows are kept, because an answer belongs to the question in whose form it was given.
func (r *Recipe) bindSupervised(cache string, set template.Set) {
	for i := range r.Audit.Facts {
		r.Audit.Facts[i] = r.bindPart(r.Audit.Facts[i], cache)
	}
	t, e, j := &r.Teacher, &r.Evaluation, &r.Judgment
	t.Model, t.Cache, t.Seed, t.Questions, t.Stored = r.Models.Teacher, cache, r.Seed, set, set
	t.Aspects = evaluation.Aspects(e.Parts)
	for i, p := range e.Parts {
		e.Parts[i] = r.bindPart(p, cache)
	}
	e.Teacher, e.Heldout, e.Cache, e.Seed = *t, r.Heldout, cache, r.Seed
	j.Judgment.Model, j.Judgment.Questions, j.Judgment.Stored = t.Model, set, set
	j.Judgment.Temperature, j.Judgment.TopP, j.Judgment.MaxTokens, j.Judgment.InFlight = t.Temperature, t.TopP, t.MaxTokens, t.InFlight
	j.Judgment.Retries = min(t.Retries, 10)
	j.Cache, j.Seed = cache, r.Seed
}

// bindPart gives a part of generated pictures the pairs and the picture model of the recipe.
func (r *Recipe) bindPart(p evaluation.Part, cache string) evaluation.Part {
	if p.Generated != nil {
		g := *p.Generated
		g.Pairs, g.Imagegen = r.Pairs, r.Imagegen
		p.Generated = &g
	}
	return p.Bind(cache, r.Seed)
}

// AuditConfig is how a bound recipe's judge is asked about facts: in the words in which it judges.
func (r *Recipe) AuditConfig() audit.Config {
	a := r.Audit
	return audit.Config{
		Model: r.Judge.Model, Cache: r.Judge.Cache, Templates: r.Judge.Templates, Temperature: a.Temperature, TopP: a.TopP,
		MaxTokens: a.MaxTokens, Seed: r.Seed, InFlight: a.InFlight,
	}
}

// validateSupervised joins all faults of the sections sft, evaluation, teacher, judgment and audit. Evaluations
// that are not wanted need no parts.
func (r *Recipe) validateSupervised() error {
	faults := settings.Of("")
	tasks := []string{schemas.TaskRewrite, schemas.TaskEvaluation, schemas.TaskJudgment}
	faults.Check(len(r.SFT.Parts) > 0, "sft.parts: none; there are %s", strings.Join(tasks, ", "))
	for i, p := range r.SFT.Parts {
		known := slices.Contains(tasks, p) && !slices.Contains(r.SFT.Parts[:i], p)
		faults.Check(known, "sft.parts[%d]: %q is no part or there twice; there are %s", i, p, strings.Join(tasks, ", "))
	}
	faults.Check(r.SFT.RewriteRows >= 0, "sft.rewrite_rows: %d is negative; 0 takes all", r.SFT.RewriteRows)
	permille := r.SFT.ValidationPermille
	faults.Check(permille >= 0 && permille <= 999, "sft.validation_permille: %d is not in 0..999; 20 keeps 2%% for validation", permille)
	if len(r.Evaluation.Parts) > 0 {
		faults.Join(r.Evaluation.Validate(), r.Judgment.Validate())
	} else {
		wanted := r.SFT.Has(schemas.TaskEvaluation) || r.SFT.Has(schemas.TaskJudgment)
		faults.Check(!wanted, "evaluation.parts: none; name the sources of facts, or set sft.parts to [rewrite]")
	}
	for i, p := range r.Audit.Facts {
		faults.Join(p.Validate(fmt.Sprintf("audit.facts[%d]", i)))
	}
	faults.Join(r.AuditConfig().Validate())
	return faults.Err()
}

// DecidesEvaluation is the part of a bound recipe that decides the rows of the evaluation set, without where
// servers are, how hard they are driven and how many rows are looked at in one round.
func (r *Recipe) DecidesEvaluation() evaluation.Config {
	c := r.Evaluation
	c.Round, c.ShardRows, c.Cache = 0, 0, ""
	c.Teacher.Model, c.Teacher.Cache, c.Teacher.InFlight = decides(c.Teacher.Model), "", 0
	c.Parts = decidesParts(c.Parts)
	return c
}

// DecidesJudgment is what decides the rows of the judgment set besides the evaluations.
func (r *Recipe) DecidesJudgment() judgment.Config {
	c := r.Judgment
	c.Round, c.ShardRows, c.Cache = 0, 0, ""
	c.Judgment.Model, c.Judgment.Cache, c.Judgment.InFlight = decides(c.Judgment.Model), "", 0
	return c
}

// DecidesAudit is what decides the answers of an audit of facts.
func (r *Recipe) DecidesAudit() any {
	c := r.AuditConfig()
	c.Model, c.Cache, c.InFlight = decides(c.Model), "", 0
	return []any{c, decidesParts(r.Audit.Facts)}
}

// decidesParts are parts without where pictures are kept and drawn.
func decidesParts(parts []evaluation.Part) []evaluation.Part {
	out := slices.Clone(parts)
	for i, p := range out {
		p = p.Bind("", 0) // copies what it points to
		if p.Generated != nil {
			p.Generated.Imagegen.Model, p.Generated.Imagegen.InFlight = decides(p.Generated.Imagegen.Model), 0
		}
		out[i] = p
	}
	return out
}
