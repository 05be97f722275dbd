// Package preference builds one iteration's preference data (paper 3.3 and 4.1): each prompt is rewritten
// eight ways, every rewriting drawn and judged, and the best and the worst kept as a pair.
//
//	prompt set, first N by rank
//	      |
//	   rewrite --> imagegen --> judge --+--> prefer --> pairs, candidates, rewards, judgments
//	      |            |          |     |      |                 |
//	      |            |          |     `--> metajudge --> judgment pairs
//	      |            |          |            |                 |
//	      `------------+----------+------------+--> rejected     |
//	                                                   |         v
//	                                                   `--> sorted sinks --> commit
//
// Metajudge is there if judgment pairs are asked for: of the judge's own answers about a candidate, it prefers one
// to another. Those are rows of another shape, with pictures, and so a configuration of their own.
//
// One element per prompt goes through rewrite, draw, judge and prefer, and the stages fuse: nothing
// crosses a shuffle but the descriptors of shards and the counts of the ledger.
package preference

import (
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/metajudge"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/prefer"
	"github.com/promptmill/promptmill/transforms/rewrite"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/template"
)

// The configurations of the data set. Pairs and JudgmentPairs are what a DPO trainer reads; the others say how
// they came about.
const (
	Pairs         = "rewrite"
	JudgmentPairs = "judgment"
	Candidates    = "candidates"
	Rewards       = "rewards"
	Judgments     = "judgments"
)

// judgmentRows is how many rows with their two pictures make a file, at most.
const judgmentRows = 500

// Config says which prompts to take, how to make pairs of them and where to commit.
type Config struct {
	// Prompts are the shards of the prompt set, limited to the first N rows.
	Prompts  parquetio.ReadConfig `json:"prompts"`
	Rewrite  rewrite.Config       `json:"rewrite"`
	Imagegen imagegen.Config      `json:"imagegen"`
	Judge    judge.Config         `json:"judge"`
	Prefer   prefer.Config        `json:"prefer"`
	// JudgmentPairs.Asked is 0 where there are to be none. Of, if 0, is all candidates on all of its aspects.
	JudgmentPairs metajudge.Config `json:"judgment_pairs,omitzero"`
	// Sink is for every configuration; how many files each has goes by ShardRows.
	Sink      parquetio.WriteConfig `json:"sink"`
	ShardRows int64                 `json:"shard_rows"`
	Snapshot  snapshot.Config       `json:"snapshot"`
}

// Validate joins all faults.
func (c Config) Validate() error {
	errs := []error{c.Rewrite.Validate(), c.Imagegen.Validate(), c.Judge.Validate(), c.Prefer.Validate()}
	if c.JudgmentPairs.Asked != 0 {
		errs = append(errs, c.JudgmentPairs.Validate())
	}
	return errors.Join(errs...)
}

// Build adds the pipeline to s and returns its PCollection<snapshot.Result> of one element.
func Build(s beam.Scope, c Config) beam.PCollection {
	s = s.Scope("preference.Build")
	prompts := parquetio.Read[schemas.Prompt](s, c.Prompts)
	rewritten, deadRewrites, rewriteCounts := rewrite.Sample(s, c.Rewrite, prompts)
	drawn, deadDraws, drawCounts := imagegen.Draw(s, c.Imagegen, rewritten)
	judged, deadJudgments, judgeCounts := judge.Score(s, c.Judge, drawn)
	best := prefer.Choose(s, c.Prefer, judged)

	n := c.Prompts.Rows()
	perPrompt := int64(c.Rewrite.Candidates)
	pairs, n1 := parquetio.Write[schemas.PreferencePair](s, c.sink(Pairs, n), best.Pairs)
	candidates, n2 := parquetio.Write[schemas.Candidate](s, c.sink(Candidates, n*perPrompt), best.Candidates)
	rewards, n3 := parquetio.Write[schemas.Reward](s, c.sink(Rewards, n*perPrompt), best.Rewards)
	judgments, n4 := parquetio.Write[schemas.Judgment](s, c.sink(Judgments, n*perPrompt*c.samples()), best.Judgments)
	shards := []beam.PCollection{pairs, candidates, rewards, judgments}
	dead := []beam.PCollection{deadRewrites, deadDraws, deadJudgments, best.Rejected}
	counts := []beam.PCollection{rewriteCounts, drawCounts, judgeCounts, best.Counts, n1, n2, n3, n4}
	if c.JudgmentPairs.Asked > 0 {
		made, deadVerdicts, verdictCounts := metajudge.Pairs(s, c.metajudge(), judged)
		judgmentPairs, n := parquetio.Write[schemas.VisionPreferencePair](s, c.judgmentSink(), made)
		shards, dead, counts = append(shards, judgmentPairs), append(dead, deadVerdicts), append(counts, verdictCounts, n)
	}
	rejected, n5 := parquetio.Write[schemas.Rejected](s, c.sink(snapshot.Rejected, n), beam.Flatten(s, dead...))

	c.Snapshot.Equations = c.equations()
	return snapshot.Commit(s, c.Snapshot,
		beam.Flatten(s, append(shards, rejected)...),
		beam.Flatten(s, append(counts, n5)...))
}

// metajudge chooses among all candidates on all of its aspects, unless the caller says otherwise.
func (c Config) metajudge() metajudge.Config {
	m := c.JudgmentPairs
	if m.Of == 0 {
		m.Of = c.Prompts.Rows() * int64(c.Rewrite.Candidates*len(m.Aspects))
	}
	return m
}

// judgmentSink is where the judgment pairs go: in smaller files, for they have pictures.
func (c Config) judgmentSink() parquetio.WriteConfig {
	c.ShardRows = min(c.ShardRows, judgmentRows)
	m := c.metajudge()
	sink := c.sink(JudgmentPairs, min(m.Asked, m.Of))
	sink.RowGroup = 0 // the recipe's is for text
	return sink
}

// equations tie the stages together: no prompt, candidate or answer may be lost between two of them.
func (c Config) equations() []string {
	equations := []string{
		fmt.Sprintf("prefer.in = %d", c.Prompts.Rows()),
		fmt.Sprintf("rewrite.in = %d*prefer.in", c.Rewrite.Candidates),
		"draw.in = rewrite.out",
		fmt.Sprintf("judge.in = %d*draw.out", c.samples()),
		"score.in = draw.out",
		"prefer.out = rows." + Pairs,
		"rewrite.out = rows." + Candidates,
		"score.out = rows." + Rewards,
		"judge.out = rows." + Judgments,
		"*.dead = rows." + snapshot.Rejected,
	}
	if c.JudgmentPairs.Asked > 0 {
		equations = append(equations,
			fmt.Sprintf("%s.in = %d*draw.out", metajudge.StageChoice, len(c.JudgmentPairs.Aspects)),
			metajudge.StagePairs+".in = "+metajudge.StageChoice+".out",
			metajudge.StagePairs+".out = rows."+JudgmentPairs,
		)
	}
	return equations
}

// samples is how many judgments a candidate gets.
func (c Config) samples() int64 { return int64(len(c.Judge.Aspects) * c.Judge.Samples) }

// sink is where the rows of one configuration go, of which there are about rows.
func (c Config) sink(config string, rows int64) parquetio.WriteConfig {
	sink := c.Sink
	sink.Config, sink.Stage = config, "write_"+config
	sink.Buckets = parquetio.Buckets(rows, c.ShardRows)
	// Five or six sinks share a bundle, and a process has several bundles.
	sink.BufferBytes = 1 << 20
	return sink
}

// New takes the sections of a bound recipe.
func New(r *recipe.Recipe) Config {
	return Config{Rewrite: r.Rewrite, Imagegen: r.Imagegen, Judge: r.Judge, Prefer: r.Prefer, JudgmentPairs: r.JudgmentPairs}
}

// Templates are the identities of the templates that the models are asked with.
func (c Config) Templates() []string {
	ids := []string{c.Rewrite.Template.ID}
	for _, aspect := range c.Judge.Aspects {
		if t, ok := c.Judge.Templates.Task(aspect); ok {
			ids = append(ids, t.ID)
		}
	}
	if c.JudgmentPairs.Asked > 0 {
		for _, aspect := range c.JudgmentPairs.Aspects {
			if t, ok := c.JudgmentPairs.Templates.Task(template.Judgment + aspect); ok {
				ids = append(ids, t.ID)
			}
		}
	}
	return ids
}
