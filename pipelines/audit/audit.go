// Package audit finds out how far a judge can be trusted: by asking it about facts and about answers of its own and
// of another, or from what it said in a preference set.
//
//	facts of all parts -+-> judge, in both orders -------------------------------.
//	          |         `-> its answers that are right -> partners -> judgment --+
//	          `-- dead letters --------------------------------------------------+--> counts --> commit
//	judgments of a preference set -----------------------------------------------+
//	answers of an evaluation set ---> the judge's own beside them, in both orders -'
//
// The run has no rows but dead letters: what was found are counts, of which Report makes a report, and Trusted
// the figures of a judge and a judge of judgments.
package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/audit"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/teacher"
)

func init() {
	register.Function1x1(audit.OfJudgment)
}

// Config says what to look at: facts to ask about, or judgments that are there.
type Config struct {
	// Parts are bound; Rows facts of each are used. Totals has what Part.Total says of each.
	Parts  []evaluation.Part `json:"parts"`
	Totals []int64           `json:"totals"`
	Audit  audit.Config      `json:"audit"`
	// Own, if it is there, has the judge tell those of its answers that agree with the facts from irrelevant ones
	// (package judgment): whether it can judge judgments.
	Own *judgment.Config `json:"own,omitempty"`
	// Judgments are shards of schemas.Judgment.
	Judgments []schemas.Shard `json:"judgments"`
	// Answers are shards of teacher.Item; the first AnswerRows of them are compared with the judge's own answers.
	Answers    []schemas.Shard `json:"answers,omitempty"`
	AnswerRows int64           `json:"answer_rows,omitempty"`
	Seed       int64           `json:"seed"`
	// Sink is for dead letters.
	Sink     parquetio.WriteConfig `json:"sink"`
	Snapshot snapshot.Config       `json:"snapshot"`
}

// Totals are how many prompts or pairs the parts have, about.
func Totals(ctx context.Context, parts []evaluation.Part) ([]int64, error) {
	var out []int64
	for _, p := range parts {
		n, err := p.Total(ctx)
		if err != nil {
			return nil, fmt.Errorf("audit: part %s: %w", p.Name(), err)
		}
		out = append(out, n)
	}
	return out, nil
}

// Validate joins all faults.
func (c Config) Validate() error {
	if len(c.Parts) == 0 && len(c.Judgments) == 0 && len(c.Answers) == 0 {
		return errors.New("audit.facts: none; name the sources of facts, or give a preference set or evaluations")
	}
	if len(c.Totals) != len(c.Parts) {
		return fmt.Errorf("audit.facts: %d totals for %d parts", len(c.Totals), len(c.Parts))
	}
	var errs []error
	for i, p := range c.Parts {
		errs = append(errs, p.Validate(fmt.Sprintf("audit.facts[%d]", i)))
	}
	if len(c.Parts) > 0 {
		errs = append(errs, c.Audit.Validate())
	}
	if c.Own != nil {
		errs = append(errs, c.Own.Validate())
	}
	if len(c.Answers) > 0 {
		errs = append(errs, c.Audit.ValidateAnswers())
	}
	return errors.Join(errs...)
}

// Build adds the pipeline to s and returns its PCollection<snapshot.Result> of one element. It panics if c is not
// valid.
func Build(s beam.Scope, c Config) beam.PCollection {
	s = s.Scope("audit.Build")
	if err := c.Validate(); err != nil {
		panic(err)
	}
	c.Snapshot.Equations = []string{"audit_facts.in = 2*facts.out", "*.dead = rows." + snapshot.Rejected}
	var observations, rejected, counts, answers []beam.PCollection
	for i, p := range c.Parts {
		rows, dead, n := p.Read(s, 0, p.Rows, c.Totals[i], c.Seed)
		seen, n2 := audit.Judge(s, c.Audit, rows)
		observations, rejected, counts = append(observations, seen), append(rejected, dead), append(counts, n, n2)
		if c.Own != nil {
			own, n := judgment.Own(s, *c.Own, rows)
			answers, counts = append(answers, own), append(counts, n)
		}
	}
	if len(answers) > 0 {
		pairs, n := judgment.PairsOf(s, c.Own.Seed, beam.Flatten(s, answers...))
		_, dead, n2 := judgment.Score(s, *c.Own, pairs)
		rejected, counts = append(rejected, dead), append(counts, n, n2)
		c.Snapshot.Equations = append(c.Snapshot.Equations,
			judgment.StageOwn+".in = facts.out", judgment.StagePairs+".in = "+judgment.StageOwn+".out", judgment.Stage+".in = "+judgment.StagePairs+".out")
	}
	if len(c.Judgments) > 0 {
		judgments := parquetio.Read[schemas.Judgment](s, parquetio.ReadConfig{Store: c.Sink.Store, Shards: c.Judgments})
		observations = append(observations, beam.ParDo(s, audit.OfJudgment, judgments))
	}
	if len(c.Answers) > 0 {
		items := parquetio.Read[teacher.Item](s, parquetio.ReadConfig{Store: c.Sink.Store, Shards: c.Answers, Limit: c.AnswerRows})
		seen, n := audit.Answers(s, c.Audit, items)
		observations, counts = append(observations, seen), append(counts, n)
	}
	counts = append(counts, audit.Count(s, beam.Flatten(s, observations...)))
	var shards beam.PCollection
	if len(rejected) > 0 {
		sink := c.Sink
		sink.Config, sink.Stage, sink.Buckets = snapshot.Rejected, "write_"+snapshot.Rejected, 1
		written, n := parquetio.Write[schemas.Rejected](s, sink, beam.Flatten(s, rejected...))
		shards, counts = written, append(counts, n)
	} else {
		shards = beam.ParDo(s, noShard, beam.Impulse(s))
	}
	return snapshot.Commit(s, c.Snapshot, shards, beam.Flatten(s, counts...))
}

// noShard is a collection of none.
func noShard([]byte, func(schemas.Shard)) {}

func init() { register.Function2x0(noShard) }

// Report reads the counts of a run.
func Report(m snapshot.Manifest, validation string) audit.Report {
	return audit.Summarise(m.Counts, validation)
}
