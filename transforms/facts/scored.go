package facts

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[pairFn]())
	beam.RegisterDoFn(reflect.TypeFor[loadFn]())
}

// Pairs says how pairs are formed of pictures that have a mean score each.
//
// The pictures of one prompt (all of them, where there are no prompts) are taken in the order of
// schemas.Rank(seed, picture). Each is paired with the picture that has waited longest, among the last 256
// that found no partner, whose mean score is at least MinGap away; if there is none it waits itself. So
// a picture is in one pair at most, and a split by picture never cuts a pair. Which of the two comes
// first is a hash of both.
type Pairs struct {
	// Images is a folder of pictures, a .zip or .tar archive of them, or a folder or glob of archives.
	Images string `json:"images" yaml:"images"`
	// MinGap is the least difference of mean scores, on the source's scale; it is more than 0.
	MinGap float64 `json:"min_gap" yaml:"min_gap"`
	// MinVotes leaves out pictures with fewer votes, where the source counts them.
	MinVotes int64 `json:"min_votes" yaml:"min_votes"`
}

// waiting bounds how many pictures without a partner are remembered, and so the time that pairing takes.
const waiting = 256

func (p Pairs) check(faults *settings.Faults) {
	faults.Check(p.Images != "", "images: there is none: name the folder or the archive of the pictures")
	checkLocal(faults, "images", p.Images)
	faults.Check(p.MinGap > 0, "min_gap: %v is not more than 0", p.MinGap)
	faults.Check(p.MinVotes >= 0, "min_votes: %d is negative", p.MinVotes)
}

// A picture is a row of a table of scores.
type picture struct {
	// id is the picture's name, source included; name is where it is among the images.
	id, name, prompt string
	score            float64
	// votes is 0 where the table does not count them.
	votes int64
}

// A table yields its rows in order, each with its key, the row as it stood, and why it is dead if it
// is. An error means that it cannot be read at all.
type table func(ctx context.Context, yield func(key, raw string, p picture, d death) error) error

// scored is the graph that all tables of scores share.
func scored(s beam.Scope, kind string, cfg TableConfig) (facts, rejected, counts beam.PCollection) {
	wants, deadRows, rowCounts := beam.ParDo3(s, &pairFn{Kind: kind, Config: cfg}, beam.Impulse(s))
	facts, deadFacts, factCounts := beam.ParDo3(s, &loadFn{Config: cfg}, beam.Reshuffle(s, wants))
	return facts, beam.Flatten(s, deadRows, deadFacts), beam.Flatten(s, rowCounts, factCounts)
}

// pairFn reads a table whole (about 150 bytes a row are held), forms pairs and chooses some.
type pairFn struct {
	Kind   string
	Config TableConfig

	tally ledger.Tally
}

func (fn *pairFn) StartBundle(context.Context, func(want), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *pairFn) FinishBundle(_ context.Context, _ func(want), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *pairFn) ProcessElement(ctx context.Context, _ []byte, emit func(want), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	pools := map[string][]choice[picture]{}
	seen := map[string]bool{}
	n := 0
	err := fn.table()(ctx, func(key, raw string, p picture, d death) error {
		if n++; n%4096 == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		fn.tally.In(StageTable, 1)
		switch {
		case d.reason != "":
			bury(&fn.tally, StageTable, key, d, raw, reject)
		case seen[p.id]:
			fn.tally.Filtered(StageTable, Duplicate, 1)
		case p.votes > 0 && p.votes < fn.Config.MinVotes:
			fn.tally.Filtered(StageTable, FewVotes, 1)
		default:
			seen[p.id] = true
			pools[p.prompt] = append(pools[p.prompt], choice[picture]{schemas.Rank(fn.Config.Seed, p.id), p.id, p})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("facts: input %s: read %s: %w", fn.Config.Name, fn.Config.Path, err)
	}
	var all []choice[want]
	for _, prompt := range slices.Sorted(maps.Keys(pools)) {
		pairs, alone := pair(pools[prompt], fn.Config.MinGap)
		fn.tally.Filtered(StageTable, Unpaired, alone)
		for _, p := range pairs {
			w := fn.want(p[0], p[1])
			all = append(all, choice[want]{schemas.Rank(fn.Config.Seed, w.Fact.ID), w.Fact.ID, w})
		}
	}
	chosen, _, notChosen := choose(fn.Config.Input, all)
	// The unit of this stage is the picture.
	fn.tally.Filtered(StageTable, NotChosen, 2*notChosen)
	fn.tally.Out(StageTable, 2*len(chosen))
	for _, c := range chosen {
		emit(c.row)
	}
	return nil
}

func (fn *pairFn) table() table {
	switch fn.Kind {
	case "ava":
		return avaTable(fn.Config)
	case "sac":
		return sacTable(fn.Config)
	}
	return anyTable(fn.Config)
}

// pair forms pairs as Pairs says and counts the pictures left alone.
func pair(pool []choice[picture], gap float64) (pairs [][2]picture, alone int) {
	slices.SortFunc(pool, func(a, b choice[picture]) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id))
	})
	var wait []picture
	for _, c := range pool {
		p := c.row
		i := slices.IndexFunc(wait, func(q picture) bool { return p.score-q.score >= gap || q.score-p.score >= gap })
		if i >= 0 {
			pairs = append(pairs, [2]picture{wait[i], p})
			wait = slices.Delete(wait, i, i+1)
			continue
		}
		if wait = append(wait, p); len(wait) > waiting {
			wait = slices.Delete(wait, 0, 1)
		}
	}
	return pairs, len(pool) - 2*len(pairs)
}

// want makes a fact of two pictures, in an order that is a hash of both.
func (fn *pairFn) want(a, b picture) want {
	low, high := min(a.id, b.id), max(a.id, b.id)
	flip := schemas.Seed(fn.Config.Seed, "facts.order", low+"\xff"+high, 0)%2 == 1
	if (a.id == low) == flip {
		a, b = b, a
	}
	f := schemas.Fact{
		Source: fn.Config.Name, Aspect: fn.Config.Aspect, Prompt: a.prompt,
		FirstID: a.id, SecondID: b.id, FactSource: schemas.FactHuman, Preference: schemas.First,
		FirstScore: &a.score, SecondScore: &b.score,
	}
	if a.score < b.score {
		f.Preference = schemas.Second
	}
	f.ID = schemas.FactID(f.Aspect, f.Prompt, f.FirstID, f.SecondID)
	f.Group = schemas.GroupID(f.Prompt, f.FirstID, f.SecondID)
	return want{Fact: f, First: a.name, Second: b.name}
}

// loadsInFlight is how many facts one bundle reads pictures for at once: enough to hide the waits of a
// disk on the network, few enough to hold in memory.
const loadsInFlight = 8

// loadFn reads the pictures of facts.
type loadFn struct {
	Config TableConfig

	keeper keeper
	images library
	bundle async.Counted[want, loaded]
}

type loaded struct {
	want  want
	death death
}

func (fn *loadFn) Setup(ctx context.Context) (err error) {
	if fn.keeper, err = openKeeper(ctx, fn.Config.Input); err != nil {
		return err
	}
	fn.images, err = openLibrary(fn.Config.Images)
	return err
}

func (fn *loadFn) Teardown() error {
	if fn.images == nil {
		return nil
	}
	return fn.images.Close()
}

func (fn *loadFn) StartBundle(ctx context.Context, _ func(beam.EventTime, schemas.Fact), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.bundle.Start(ctx, loadsInFlight, fn.load)
}

func (fn *loadFn) ProcessElement(_ context.Context, t beam.EventTime, w want, emit func(beam.EventTime, schemas.Fact), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	return fn.bundle.Submit(t, w, fn.take(emit, reject))
}

func (fn *loadFn) FinishBundle(_ context.Context, emit func(beam.EventTime, schemas.Fact), reject func(schemas.Rejected), count func(schemas.Count)) error {
	return fn.bundle.Finish(fn.take(emit, reject), count)
}

func (fn *loadFn) take(emit func(beam.EventTime, schemas.Fact), reject func(schemas.Rejected)) func(beam.EventTime, loaded) {
	return func(t beam.EventTime, l loaded) {
		fn.bundle.Tally.In(Stage, 1)
		if settle(&fn.bundle.Tally, l.want.Fact, l.want, l.death, reject) {
			emit(t, l.want.Fact)
		}
	}
}

// load reads both pictures of w; the first that is dead kills the fact.
func (fn *loadFn) load(ctx context.Context, w want) (loaded, error) {
	for _, side := range []struct {
		name string
		ref  *schemas.ImageRef
	}{{w.First, &w.Fact.First}, {w.Second, &w.Fact.Second}} {
		data, d, err := readPicture(fn.images, side.name, fn.Config.maxBytes())
		if err == nil && d.reason == "" {
			*side.ref, d, err = fn.keeper.keep(ctx, data)
		}
		if err != nil {
			return loaded{}, fmt.Errorf("facts: fact %s: %w", w.Fact.ID, err)
		}
		if d.reason != "" {
			if !strings.Contains(d.detail, side.name) {
				d.detail = side.name + ": " + d.detail
			}
			return loaded{w, d}, nil
		}
	}
	return loaded{want: w}, nil
}

// rowKey names a row for people: input:file@line, from 1.
func rowKey(cfg TableConfig, line int64) string {
	return fmt.Sprintf("%s:%s@%d", cfg.Name, filepath.Base(cfg.Path), line)
}
