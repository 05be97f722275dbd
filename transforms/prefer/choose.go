package prefer

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/deadletter"
	"github.com/promptmill/promptmill/transforms/template"
)

// A scored candidate has judgments enough on every aspect.
type scored struct {
	schemas.Candidate
	reward schemas.Reward
	total  *big.Rat
}

// score gives the slate's candidates with pictures their rewards, by ascending index; those that have
// too few judgments are dead.
func (fn *preferFn) score(slate schemas.Slate, rejected func(schemas.Rejected)) []scored {
	type mean struct{ milli, n int64 }
	type key struct{ candidate, aspect string }
	means := map[key]mean{}
	for _, j := range slate.Judgments {
		k := key{j.CandidateID, j.Aspect}
		m := means[k]
		m.milli += thousandths(j.Score2)
		m.n++
		means[k] = m
	}
	var out []scored
	for _, c := range slate.Candidates {
		if c.Image.SHA256 == "" {
			continue
		}
		fn.tally.In(StageScore, 1)
		s := scored{Candidate: c, reward: schemas.Reward{CandidateID: c.ID, PromptID: slate.Prompt.ID}, total: new(big.Rat)}
		var short []string
		for _, a := range fn.Config.Aspects {
			m := means[key{c.ID, a}]
			if m.n < int64(fn.Config.MinSamples) {
				short = append(short, fmt.Sprintf("%s has %d of %d judgments", a, m.n, fn.Config.MinSamples))
				continue
			}
			score := big.NewRat(m.milli, 1000*m.n)
			s.total.Add(s.total, score)
			s.reward.Samples += int32(m.n)
			*aspect(&s.reward, a) = new(float(score))
		}
		if short != nil {
			fn.tally.Dead(StageScore, TooFewSamples, 1)
			rejected(deadletter.Row(StageScore, c.ID, TooFewSamples, 1, strings.Join(short, ", "), slate.Prompt))
			continue
		}
		fn.tally.Out(StageScore, 1)
		s.reward.Total = float(s.total)
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b scored) int { return cmp.Compare(a.Index, b.Index) })
	return out
}

// choose pairs the best with the worst of the scored candidates, of equals the one with the lowest
// index, or says why there is no pair.
func (fn *preferFn) choose(slate schemas.Slate, all []scored) (pair schemas.PreferencePair, margin *big.Rat, reason string) {
	switch len(all) {
	case 0:
		return pair, nil, NoCandidate
	case 1:
		return pair, nil, SingleCandidate
	}
	best, worst := all[0], all[0]
	for _, c := range all[1:] {
		if c.total.Cmp(best.total) > 0 {
			best = c
		}
		if c.total.Cmp(worst.total) < 0 {
			worst = c
		}
	}
	margin = new(big.Rat).Sub(best.total, worst.total)
	switch {
	case margin.Sign() == 0:
		return pair, nil, Tie
	case margin.Cmp(big.NewRat(thousandths(fn.Config.MinMargin), 1000)) < 0:
		return pair, nil, Margin
	}
	chosen, rejected := fn.Config.said(slate.Prompt, best.Candidate), fn.Config.said(slate.Prompt, worst.Candidate)
	return schemas.PreferencePair{
		ID:   schemas.PreferenceID(schemas.KindRewrite, slate.Prompt.ID, chosen, rejected),
		Kind: schemas.KindRewrite, PromptID: slate.Prompt.ID,
		Prompt: fn.Config.Template.Messages(slate.Prompt.Text), Chosen: chosen, Rejected: rejected,
		ChosenID: best.ID, RejectedID: worst.ID,
		ChosenScore: best.reward.Total, RejectedScore: worst.reward.Total, Margin: float(margin),
		Policy: best.Policy, Judge: slate.Judgments[0].Judge,
	}, margin, ""
}

// said is the policy's turn that a candidate came from.
func (c Config) said(p schemas.Prompt, candidate schemas.Candidate) []schemas.Message {
	return []schemas.Message{{Role: schemas.RoleAssistant, Content: template.Said(c.Continues, p.Text, candidate.Text)}}
}

// noCandidate is the dead letter of a prompt without any reward.
func noCandidate(slate schemas.Slate) schemas.Rejected {
	pictures := 0
	for _, c := range slate.Candidates {
		if c.Image.SHA256 != "" {
			pictures++
		}
	}
	detail := fmt.Sprintf("%d candidates, %d with a picture, none with a reward", len(slate.Candidates), pictures)
	return deadletter.Row(Stage, slate.Prompt.ID, NoCandidate, 1, detail, slate.Prompt)
}

// aspect is the field of r for the aspect a.
func aspect(r *schemas.Reward, a string) **float64 {
	switch a {
	case schemas.Aesthetic:
		return &r.Aesthetic
	case schemas.Pick:
		return &r.Pick
	}
	return &r.Alignment
}

// thousandths is exact: scores have three decimals at most.
func thousandths(score float64) int64 { return int64(math.Round(score * 1000)) }

func float(r *big.Rat) float64 {
	f, _ := r.Float64()
	return f
}

// bounds are the upper ends of the margin histogram's buckets, each bucket with its own end. The
// smallest margin of three whole-numbered samples is a third.
var bounds = []string{"0.5", "1", "1.5", "2", "3", "4", "5", "6", "8", "10"}

// bucket names the bucket of margin: the least bound that is not below it, else "inf".
func bucket(margin *big.Rat) string {
	for _, b := range bounds {
		if r, _ := new(big.Rat).SetString(b); margin.Cmp(r) <= 0 {
			return b
		}
	}
	return "inf"
}
