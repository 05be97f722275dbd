// Package metrics measures systems that rewrite prompts, on held-out prompts.
//
//	held-out prompts -+-> fixed (original, tags 1-6) --+
//	                  |                                +-> imagegen -> measure -> sink -> commit
//	                  `-> rewrite (policy), each draw -+       |          |
//	                           `------> rejected <-------------+----------'
//
// Of each text a picture is drawn and scored for the raw prompt. All texts of one prompt and draw share the
// seed of the picture, so that systems are compared prompt by prompt. Summarise makes figures of the rows.
package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/rewrite"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Rows is the configuration of the data set.
const Rows = "measurements"

// Decodings of a text.
const (
	Sampled = "sampled"
	// Beam is decoding without chance: a search for the likeliest text, or greedy where the policy has none.
	Beam = "beam"
	// Fixed: there is nothing to draw.
	Fixed = "fixed"
)

// Config says what to measure.
type Config struct {
	// Prompts are the shards of the held-out prompts.
	Prompts parquetio.ReadConfig `json:"prompts"`
	// System is the policy's name in the rows; "" measures no policy. Tags adds the systems that need no model.
	System string `json:"system"`
	Tags   bool   `json:"tags"`
	// Reference is the policy that the sampled texts of the policy are compared with, by their log-probabilities (the
	// measure KL); none if it has no backend.
	Reference model.Spec `json:"reference,omitzero"`
	// Sampled and Beam are how the policy is asked, Draws how often the first one is.
	Sampled  rewrite.Config        `json:"sampled"`
	Beam     rewrite.Config        `json:"beam"`
	Draws    int                   `json:"draws"`
	Imagegen imagegen.Config       `json:"imagegen"`
	Scorers  []recipe.Scorer       `json:"scorers"`
	Sink     parquetio.WriteConfig `json:"sink"`
	Snapshot snapshot.Config       `json:"snapshot"`
}

// New takes the sections of a bound recipe, whose policy is measured.
func New(r *recipe.Recipe, system string) Config {
	sampled, pictures := r.Rewrite, r.Imagegen
	sampled.Candidates = 1
	sampled.Seed, pictures.Seed = r.MetricsSeed(), r.MetricsSeed()
	greedy := sampled
	greedy.Temperature, greedy.TopP = 0, 1
	if len(r.Metrics.Beam) > 0 {
		options := map[string]string{}
		maps.Copy(options, r.Rewrite.Model.Options)
		maps.Copy(options, r.Metrics.Beam)
		greedy.Model.Options = options
	}
	return Config{System: system, Sampled: sampled, Beam: greedy, Draws: r.Metrics.Draws, Imagegen: pictures, Scorers: r.Metrics.Scorers}
}

// Decides is the part of c that decides the scores, but for the prompts and the weights of models: without where
// models, answers and rows are.
func (c Config) Decides() Config {
	options := func(s model.Spec) model.Spec { return model.Spec{Backend: s.Backend, Options: s.Options} }
	c.Prompts, c.Sink, c.Snapshot = parquetio.ReadConfig{}, parquetio.WriteConfig{}, snapshot.Config{}
	if c.System == "" {
		c.Sampled, c.Beam = rewrite.Config{}, rewrite.Config{}
	}
	for _, ask := range []*rewrite.Config{&c.Sampled, &c.Beam} {
		ask.Model, ask.Cache, ask.InFlight = options(ask.Model), "", 0
	}
	c.Imagegen.Model, c.Imagegen.Cache, c.Imagegen.InFlight = options(c.Imagegen.Model), "", 0
	c.Reference = model.Spec{Backend: c.Reference.Backend}
	c.Scorers = slices.Clone(c.Scorers)
	for i := range c.Scorers {
		s := c.Scorers[i].Model
		c.Scorers[i].Model = model.Spec{Backend: s.Backend, Model: s.Model, Revision: s.Revision, Options: s.Options}
	}
	return c
}

// Build adds the pipeline to s and returns its PCollection<snapshot.Result> of one element.
func Build(s beam.Scope, c Config) beam.PCollection {
	s = s.Scope("metrics.Build")
	prompts := parquetio.Read[schemas.Prompt](s, c.Prompts)
	var a arms
	for draw := range c.Draws {
		if c.System != "" {
			a.policy(s, c, Sampled, draw, prompts)
		}
		if c.Tags {
			a.fixed(s, c, draw, prompts)
		}
	}
	if c.System != "" {
		a.policy(s, c, Beam, 0, prompts)
	}

	rows, n1 := parquetio.Write[schemas.Measurement](s, c.sink(Rows), beam.Flatten(s, a.rows...))
	rejected, n2 := parquetio.Write[schemas.Rejected](s, c.sink(snapshot.Rejected), beam.Flatten(s, a.rejected...))

	c.Snapshot.Equations = []string{"measure.out = rows." + Rows, "*.dead = rows." + snapshot.Rejected}
	var from []string
	if c.System != "" {
		from = append(from, "rewrite.out")
		c.Snapshot.Equations = append(c.Snapshot.Equations, fmt.Sprintf("rewrite.in = %d", c.Prompts.Rows()*int64(c.Draws+1)))
	}
	if c.Tags {
		from = append(from, "fixed.out")
		c.Snapshot.Equations = append(c.Snapshot.Equations, fmt.Sprintf("fixed.in = %d", c.Prompts.Rows()*int64(c.Draws*len(FixedSystems()))))
	}
	drawn := strings.Join(from, " + ")
	if len(c.Scorers) > 0 {
		c.Snapshot.Equations = append(c.Snapshot.Equations, "draw.in = "+drawn, "measure.in = draw.out")
	} else {
		c.Snapshot.Equations = append(c.Snapshot.Equations, "measure.in = "+drawn)
	}
	return snapshot.Commit(s, c.Snapshot, beam.Flatten(s, rows, rejected), beam.Flatten(s, append(a.counts, n1, n2)...))
}

// arms are the branches of the graph: one for each way to write texts, and draw.
type arms struct{ rows, rejected, counts []beam.PCollection }

// policy asks the policy for one text of each prompt.
func (a *arms) policy(s beam.Scope, c Config, decoding string, draw int, prompts beam.PCollection) {
	s = s.Scope(fmt.Sprintf("%s%d", decoding, draw))
	ask := c.Sampled
	if decoding == Beam {
		ask = c.Beam
	}
	ask.Seed += int64(draw)
	slates, dead, counts := rewrite.Sample(s, ask, prompts)
	a.rejected, a.counts = append(a.rejected, dead), append(a.counts, counts)
	fn := measureFn{Systems: []string{c.System}, Decoding: decoding, Draw: int32(draw)}
	if decoding == Sampled && c.Reference.Backend != "" {
		fn.Ratio = &ratio{Policy: c.Sampled.Model, Reference: c.Reference, Template: c.Sampled.Template, Continues: c.Sampled.Continues}
	}
	a.measure(s, c, fn, slates)
}

// fixed makes the texts that need no model.
func (a *arms) fixed(s beam.Scope, c Config, draw int, prompts beam.PCollection) {
	s = s.Scope(fmt.Sprintf("fixed%d", draw))
	slates, counts := fixedTexts(s, prompts)
	a.counts = append(a.counts, counts)
	a.measure(s, c, measureFn{Systems: FixedSystems(), Decoding: Fixed, Draw: int32(draw)}, slates)
}

// measure draws and scores what the slates hold.
func (a *arms) measure(s beam.Scope, c Config, fn measureFn, slates beam.PCollection) {
	fn.Scorers, fn.Cache = c.Scorers, c.Imagegen.Cache
	if len(c.Scorers) > 0 {
		pictures := c.Imagegen
		pictures.Seed += int64(fn.Draw)
		var dead, counts beam.PCollection
		slates, dead, counts = imagegen.Draw(s, pictures, slates)
		a.rejected, a.counts = append(a.rejected, dead), append(a.counts, counts)
	}
	rows, dead, counts := beam.ParDo3(s, &fn, slates)
	a.rows, a.rejected, a.counts = append(a.rows, rows), append(a.rejected, dead), append(a.counts, counts)
}

func (c Config) sink(config string) parquetio.WriteConfig {
	sink := c.Sink
	sink.Config, sink.Stage, sink.Buckets, sink.BufferBytes = config, "write_"+config, 1, 1<<20
	return sink
}
