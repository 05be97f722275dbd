package evaluation

import (
	"context"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/facts"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/teacher"
)

// A Target is what a part was to give and what it gave: less where generated pictures would be too large a
// part of the set.
type Target struct {
	Part string `json:"part"`
	Want int64  `json:"want"`
	Got  int64  `json:"got"`
	// Rounds is how many there were.
	Rounds int `json:"rounds"`
}

// Run builds the set that header names, round by round, and returns its manifest. Its metadata have, as JSON,
// the teacher's Report under "teacher", the Targets under "targets" and, under "heldout", how many facts were left
// out for each benchmark. A part that stays short is a
// *rounds.ShortError, unless AllowShort is set; nothing is committed then but the rounds.
func Run(ctx context.Context, st store.Store, c Config, header snapshot.Header, ensure rounds.Ensure) (snapshot.Manifest, error) {
	var none snapshot.Manifest
	if err := c.Validate(); err != nil {
		return none, err
	}
	var (
		runs    []snapshot.Manifest
		targets []Target
		rows    int64
	)
	last := map[string]rounds.Place{}
	for _, p := range c.ordered() {
		want := p.Rows
		if p.Generated != nil {
			want = min(want, c.mostGenerated(rows, targets))
		}
		places, its, err := c.gather(ctx, st, p, want, header, ensure)
		runs = append(runs, its...)
		if err != nil {
			return none, err
		}
		got := min(want, int64(len(places)))
		class := classOf(p.Name(), p.Aspect)
		if place, ok := rounds.Last(places, want); ok {
			last[class] = place
		}
		rows += got
		targets = append(targets, Target{Part: class, Want: p.Rows, Got: got, Rounds: len(its)})
		if got < want && !c.AllowShort {
			return none, &rounds.ShortError{Set: header.Set, Part: class, Want: want, Got: got, Counts: rounds.Counts(its)}
		}
	}
	header.Parents = append(header.Parents, rounds.Parents(runs)...)
	header, err := rounds.Annotate(header, "teacher", teacher.Summarise(rounds.Counts(runs)))
	if err != nil {
		return none, err
	}
	if header, err = rounds.Annotate(header, "targets", targets); err != nil {
		return none, err
	}
	removed := map[string]int64{}
	for _, n := range rounds.Counts(runs) {
		if n.Stage == heldout.Stage && n.Outcome == schemas.Filtered {
			removed[n.Reason] += n.N
		}
	}
	if header, err = rounds.Annotate(header, "heldout", removed); err != nil {
		return none, err
	}
	return ensure(ctx, header, StageFirst, rows, func(s beam.Scope) { c.Build(s, runs, last, header, rows) })
}

// ordered are the parts with those of generated pictures last: how many of them may be taken depends on the
// others.
func (c Config) ordered() []Part {
	var human, generated []Part
	for _, p := range c.bound().Parts {
		if p.Generated != nil {
			generated = append(generated, p)
		} else {
			human = append(human, p)
		}
	}
	return append(human, generated...)
}

// mostGenerated is how many more rows about generated pictures may join the rows there are.
func (c Config) mostGenerated(rows int64, targets []Target) int64 {
	generated := map[string]bool{}
	for _, p := range c.Parts {
		generated[classOf(p.Name(), p.Aspect)] = p.Generated != nil
	}
	var have int64
	for _, t := range targets {
		if generated[t.Part] {
			have += t.Got
		}
	}
	others := float64(rows - have)
	return max(int64(c.MaxGenerated/(1-c.MaxGenerated)*others+1e-9)-have, 0)
}

// next is how many facts the next round takes, if so many gave what there is: some more than those that are
// missing will need, because what is left over was paid for in vain.
func (c Config) next(want, have, asked int64) int64 {
	const first, margin, few = 0.8, 1.1, 32
	rate := first // nobody knows yet
	if asked > 0 {
		rate = max(float64(have)/float64(asked), 0.01)
	}
	return min(c.Round, int64(margin*float64(want-have)/rate)+few)
}

// gather runs rounds of a part until it has want survivors or no facts are left, and returns all of them.
func (c Config) gather(ctx context.Context, st store.Store, p Part, want int64, header snapshot.Header, ensure rounds.Ensure) ([]rounds.Place, []snapshot.Manifest, error) {
	total, err := p.Total(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("evaluation: part %s: %w", p.Name(), err)
	}
	var (
		places []rounds.Place
		runs   []snapshot.Manifest
	)
	for from, to := int64(0), int64(0); from < total && int64(len(places)) < want; from = to {
		to = from + c.next(want, int64(len(places)), from)
		h := rounds.Header(header, p.Name()+"-"+p.Aspect, from, to)
		m, err := ensure(ctx, h, teacher.Stage, to-from, func(s beam.Scope) { c.BuildRound(s, p, from, to, total, h) })
		if err != nil {
			return nil, runs, err
		}
		runs = append(runs, m)
		err = parquetio.Rows(ctx, st, schemas.ShardsOf(m.Shards, Items), func(it teacher.Item) error {
			places = append(places, placeOf(c.Seed, p.hashed(), it))
			return nil
		})
		if err != nil {
			return nil, runs, err
		}
		if !p.hashed() && ledger.Total(m.Counts, facts.Stage, schemas.In) == 0 {
			break // the file has no more
		}
	}
	return places, runs, nil
}
