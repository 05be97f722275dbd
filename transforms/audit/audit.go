// Package audit finds out how far a judge can be trusted. Observations, a judge's scores of two things, go
// in; small counts come out, of which Summarise makes a report: how often the order decides, whether the
// longer answer or the judge's own wins, which answers do not parse, the histogram of scores, and how often
// the judge agrees with people.
//
// # Design
//
// Agreement is counted as PickScore's authors count it (Kirstain et al., 2023): a match is 1, a tie on one
// side only is one half, anything else 0. The judge calls a tie what it scores no further apart than a
// threshold, which is chosen on a validation part and applied to the others. The counts hold the differences
// of scores, so the threshold is found after the graph has run, and nothing larger than a count leaves it.
//
// Two observations of one key in different orders tell what the order does; they are grouped by key, as
// names and numbers. Observations that nobody can agree with, of generated pictures, are in no figure of
// agreement.
package audit

import (
	"context"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
)

func init() {
	beam.RegisterType(reflect.TypeFor[Observation]())
	beam.RegisterType(reflect.TypeFor[view]())
	beam.RegisterDoFn(reflect.TypeFor[observeFn]())
	beam.RegisterDoFn(reflect.TypeFor[orderFn]())
	register.Emitter2[string, view]()
	register.Emitter1[schemas.Count]()
	register.Emitter1[Observation]()
	register.Iter1[view]()
}

// Stage has Used counts only: see Summarise.
const Stage = "audit"

// An Observation is what a judge said about two things, First and Second: pictures, or answers about them.
type Observation struct {
	// Key names the two things and the aspect; observations of both orders share it.
	Key    string
	Aspect string
	// Order is schemas.AsIs or Swapped.
	Order string
	// First and Second are the scores of the things, wherever they stood. Fault says why there are none.
	First, Second float64
	Fault         string
	// Part is the part of the data set: the threshold is chosen on one. Preference and FactSource are the
	// fact's, "" and none where there is none.
	Part       string
	Preference string
	FactSource string
	// FirstLength and SecondLength are those of texts in characters, 0 for pictures. FirstOwn and SecondOwn say
	// that the judge wrote the text itself.
	FirstLength, SecondLength int64
	FirstOwn, SecondOwn       bool
	// Truth is how much First is above Second on the scale of the fact, if Scored says that the fact has scores.
	Truth  float64
	Scored bool
}

// OfJudgment is what a judgment of a preference set tells: First is the raw prompt's picture.
func OfJudgment(j schemas.Judgment) Observation {
	return Observation{
		Key: j.CandidateID + "/" + j.Aspect, Aspect: j.Aspect, Order: schemas.AsIs, First: j.Score1, Second: j.Score2,
		FactSource: schemas.FactNone,
	}
}

// OfPair is what a pair of answers that were judged tells: First is the chosen one.
func OfPair(p schemas.VisionPreferencePair, aspect string) Observation {
	return Observation{
		Key: p.ID, Aspect: aspect, Order: schemas.AsIs, First: p.ChosenScore, Second: p.RejectedScore, FactSource: schemas.FactNone,
		FirstLength: length(p.Chosen), SecondLength: length(p.Rejected),
	}
}

func length(messages []schemas.Message) (n int64) {
	for _, m := range messages {
		n += int64(utf8.RuneCountInString(m.Content))
	}
	return n
}

// Count counts a PCollection<Observation> and returns a PCollection<schemas.Count> for Summarise.
func Count(s beam.Scope, observations beam.PCollection) beam.PCollection {
	s = s.Scope("audit.Count")
	views, counts := beam.ParDo2(s, &observeFn{}, observations)
	return beam.Flatten(s, counts, beam.ParDo(s, &orderFn{}, beam.GroupByKey(s, views)))
}

// A view is what the comparison of orders needs of an observation.
type view struct {
	Aspect  string
	Swapped bool
	Read    bool
	// Lead is the score of First over that of Second.
	Lead float64
}

// Kinds of counts, the first part of their reason, and what they tell.
const (
	kindRead   = "read"
	kindFault  = "fault"
	kindScore  = "score"
	kindLonger = "longer"
	kindOwn    = "own"
	kindLead   = "lead"
	kindOrder  = "order"
	kindTruth  = "truth"

	won  = "won"
	lost = "lost"
	tied = "tied"
)

const separator = "/"

func count(t *ledger.Tally, parts ...string) { t.Used(Stage, strings.Join(parts, separator), 1) }

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

type observeFn struct{ tally ledger.Tally }

func (fn *observeFn) StartBundle(context.Context, func(string, view), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *observeFn) ProcessElement(_ context.Context, o Observation, emit func(string, view), _ func(schemas.Count)) {
	emit(o.Key, view{Aspect: o.Aspect, Swapped: o.Order == schemas.Swapped, Read: o.Fault == "", Lead: o.First - o.Second})
	t := &fn.tally
	if o.Fault != "" {
		count(t, kindFault, o.Aspect, o.Fault)
		return
	}
	count(t, kindRead, o.Aspect)
	count(t, kindScore, o.Aspect, number(o.First))
	count(t, kindScore, o.Aspect, number(o.Second))
	if o.FirstLength > 0 && o.SecondLength > 0 && o.FirstLength != o.SecondLength {
		count(t, kindLonger, o.Aspect, outcome(o.First, o.Second, o.FirstLength > o.SecondLength))
	}
	if o.FirstOwn != o.SecondOwn {
		count(t, kindOwn, o.Aspect, outcome(o.First, o.Second, o.FirstOwn))
	}
	if o.Preference != schemas.NoPreference && o.FactSource != schemas.FactNone {
		// In thousandths, which scores are exact in: the difference of two has rounding errors else.
		lead := int64(1000*o.First+.5) - int64(1000*o.Second+.5)
		count(t, kindLead, o.Aspect, o.Part, o.Preference, strconv.FormatInt(lead, 10))
		if o.Scored {
			truth := int64(math.Round(1000 * o.Truth))
			count(t, kindTruth, o.Aspect, strconv.FormatInt(lead, 10), strconv.FormatInt(truth, 10))
		}
	}
}

func (fn *observeFn) FinishBundle(_ context.Context, _ func(string, view), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}

// outcome says how the thing that is asked about, First or else Second, came off.
func outcome(first, second float64, isFirst bool) string {
	switch {
	case first == second:
		return tied
	case (first > second) == isFirst:
		return won
	}
	return lost
}

type orderFn struct{ tally ledger.Tally }

func (fn *orderFn) StartBundle(context.Context, func(schemas.Count)) { fn.tally.Reset() }

// ProcessElement compares the mean leads of a key's two orders; a key that was asked in one tells nothing.
func (fn *orderFn) ProcessElement(_ context.Context, _ string, views func(*view) bool, _ func(schemas.Count)) {
	var v view
	var aspect string
	var asked, read [2]int
	var lead [2]float64
	for views(&v) {
		aspect = v.Aspect
		i := 0
		if v.Swapped {
			i = 1
		}
		asked[i]++
		if v.Read {
			read[i]++
			lead[i] += v.Lead
		}
	}
	if asked[0] == 0 || asked[1] == 0 {
		return
	}
	what := judge.Unread
	if read[0] > 0 && read[1] > 0 {
		what = judge.BothOrders(lead[0], -lead[1]) // Second stood first in the other order
	}
	count(&fn.tally, kindOrder, aspect, what)
}

func (fn *orderFn) FinishBundle(_ context.Context, counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}
