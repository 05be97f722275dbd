// Package ledger accounts for every row: what goes into a stage comes out, is filtered for a reason or
// is dead for a reason, exactly.
//
// The counts are data. A DoFn adds them up in a Tally and emits them with its bundle, so a bundle that
// fails and runs again counts once; they meet the shards in the step that commits, which checks them
// and publishes nothing if they do not balance. Runner metrics are not used: retries count them twice.
package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/promptmill/promptmill/schemas"
)

// A Tally adds up the counts of one bundle. The zero Tally is ready. It is not safe for concurrent
// use: a DoFn adds on the goroutine that emits.
type Tally struct {
	counts map[schemas.Count]int64
}

// Reset drops what an abandoned bundle left: call it in StartBundle.
func (t *Tally) Reset() { clear(t.counts) }

// In counts n units that entered stage.
func (t *Tally) In(stage string, n int) { t.add(stage, schemas.In, "", n) }

// Out counts n units that stage handed on.
func (t *Tally) Out(stage string, n int) { t.add(stage, schemas.Out, "", n) }

// Filtered counts n good units that stage left out on purpose.
func (t *Tally) Filtered(stage, reason string, n int) { t.add(stage, schemas.Filtered, reason, n) }

// Dead counts n units that stage gave up on; each has a Rejected row.
func (t *Tally) Dead(stage, reason string, n int) { t.add(stage, schemas.Dead, reason, n) }

// Used counts what stage spent: calls, cache_hits, prompt_tokens, completion_tokens.
func (t *Tally) Used(stage, what string, n int) { t.add(stage, schemas.Used, what, n) }

func (t *Tally) add(stage, outcome, reason string, n int) {
	if n == 0 {
		return
	}
	if t.counts == nil {
		t.counts = map[schemas.Count]int64{}
	}
	key := schemas.Count{Stage: stage, Outcome: outcome, Reason: reason}
	t.counts[key] += int64(n)
	live.add(key, int64(n))
}

// Flush emits the counts and empties t: call it in FinishBundle, after the bundle's last row.
func (t *Tally) Flush(emit func(schemas.Count)) {
	for key, n := range t.counts {
		key.N = n
		emit(key)
	}
	clear(t.counts)
}

var live liveCounts

type liveCounts struct {
	mu sync.Mutex
	m  map[schemas.Count]int64
}

func (l *liveCounts) add(key schemas.Count, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[schemas.Count]int64{}
	}
	l.m[key] += n
}

// Live returns what this process counted so far, bundles that failed included: for progress only.
func Live() []schemas.Count {
	live.mu.Lock()
	defer live.mu.Unlock()
	out := make([]schemas.Count, 0, len(live.m))
	for key, n := range live.m {
		key.N = n
		out = append(out, key)
	}
	return out
}

// Sum merges counts of equal stage, outcome and reason and sorts them.
func Sum(counts []schemas.Count) []schemas.Count {
	m := map[schemas.Count]int64{}
	for _, c := range counts {
		n := c.N
		c.N = 0
		m[c] += n
	}
	out := make([]schemas.Count, 0, len(m))
	for c, n := range m {
		c.N = n
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b schemas.Count) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// Total is the sum of N over the counts of a stage ("*" for all) and outcome.
func Total(counts []schemas.Count, stage, outcome string) int64 {
	var n int64
	for _, c := range counts {
		if (stage == "*" || c.Stage == stage) && c.Outcome == outcome {
			n += c.N
		}
	}
	return n
}

// Check reports every stage whose in is not out + filtered + dead, and every equation that does not
// hold. An equation ties stages together, as in
//
//	"rewrite.in = 8*prefer.in"
//	"draw.in = rewrite.out"
//	"*.dead = rows.rejected"
//
// Each side is a sum of terms: [times*]stage.outcome, or a whole number. rows.CONFIG is the number of
// rows written, which the caller passes in rows.
func Check(counts []schemas.Count, rows map[string]int64, equations []string) error {
	var errs []error
	var stages []string
	for _, c := range counts {
		stages = append(stages, c.Stage)
	}
	slices.Sort(stages)
	for _, s := range slices.Compact(stages) {
		in, out := Total(counts, s, schemas.In), Total(counts, s, schemas.Out)
		filtered, dead := Total(counts, s, schemas.Filtered), Total(counts, s, schemas.Dead)
		if in != out+filtered+dead {
			errs = append(errs, fmt.Errorf("ledger: stage %s: %d in, but %d out + %d filtered + %d dead", s, in, out, filtered, dead))
		}
	}
	for _, eq := range equations {
		left, right, ok := strings.Cut(eq, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("ledger: equation %q has no =", eq))
			continue
		}
		l, lerr := eval(left, counts, rows)
		r, rerr := eval(right, counts, rows)
		if err := errors.Join(lerr, rerr); err != nil {
			errs = append(errs, fmt.Errorf("ledger: equation %q: %w", eq, err))
		} else if l != r {
			errs = append(errs, fmt.Errorf("ledger: %s does not hold: %d is not %d", eq, l, r))
		}
	}
	return errors.Join(errs...)
}

func eval(side string, counts []schemas.Count, rows map[string]int64) (int64, error) {
	var sum int64
	for term := range strings.SplitSeq(side, "+") {
		term = strings.TrimSpace(term)
		times := int64(1)
		// "*." is the stage wildcard, any other "*" a multiplication.
		if before, after, ok := strings.Cut(term, "*"); ok && strings.TrimSpace(before) != "" {
			n, err := strconv.ParseInt(strings.TrimSpace(before), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("term %q: %w", term, err)
			}
			times, term = n, strings.TrimSpace(after)
		}
		stage, outcome, ok := strings.Cut(term, ".")
		switch {
		case !ok:
			n, err := strconv.ParseInt(term, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("term %q: %w", term, err)
			}
			sum += times * n
		case stage == "rows":
			sum += times * rows[outcome]
		default:
			sum += times * Total(counts, stage, outcome)
		}
	}
	return sum, nil
}
