package metajudge

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/deadletter"
	"github.com/promptmill/promptmill/transforms/embed"
	"github.com/promptmill/promptmill/transforms/judge"
)

// An outcome is what became of one slate.
type outcome struct {
	pairs []schemas.VisionPreferencePair
	dead  []schemas.Rejected
	// Candidates on an aspect: notChosen, sameAnswers and contests are all of them, equal are contests.
	notChosen, sameAnswers, contests, equal int
	// asked counts verdicts, compared and flipped pairs of answers.
	asked, compared, flipped int
	usage                    model.Usage
}

// A contest is between the judge's different answers about one candidate on one aspect, by sample.
type contest struct {
	candidate schemas.Candidate
	aspect    string
	answers   []schemas.Judgment
	verdicts  []verdict
}

// A verdict is the judge's on answers a and b of a contest, shown as Answer A and Answer B. The verdicts on one
// pair of answers, in both orders, follow each other.
type verdict struct {
	a, b  int
	reply judge.Reply
	asked int // how often
}

// judge has the answers about the chosen candidates of a slate judged.
func (fn *pairFn) judge(ctx context.Context, slate schemas.Slate) (outcome, error) {
	var out outcome
	contests := fn.choose(slate, &out)
	var all []func(context.Context) error
	for i := range contests {
		c := &contests[i]
		for v := range c.verdicts {
			all = append(all, func(ctx context.Context) error { return fn.ask(ctx, slate, c, &c.verdicts[v]) })
		}
	}
	err := async.Each(ctx, len(all), func(ctx context.Context, i int) error { return all[i](ctx) })
	if err != nil {
		return out, fmt.Errorf("metajudge: prompt %s: %w", slate.Prompt.ID, err)
	}
	out.contests, out.asked = len(contests), len(all)
	for i := range contests {
		if err := fn.settle(ctx, slate, &contests[i], &out); err != nil {
			return out, fmt.Errorf("metajudge: prompt %s: %w", slate.Prompt.ID, err)
		}
	}
	return out, nil
}

// choose returns the contests of a slate, by candidate and aspect.
func (fn *pairFn) choose(slate schemas.Slate, out *outcome) []contest {
	var contests []contest
	for _, candidate := range slate.Candidates {
		if candidate.Image.SHA256 == "" {
			continue // it was never judged
		}
		for _, aspect := range fn.Config.Aspects {
			if !fn.Config.chooses(candidate.ID, aspect) {
				out.notChosen++
				continue
			}
			c := contest{candidate: candidate, aspect: aspect, answers: different(slate, candidate.ID, aspect)}
			if len(c.answers) < 2 {
				out.sameAnswers++
				continue
			}
			for a := range c.answers {
				for b := a + 1; b < len(c.answers); b++ {
					c.verdicts = append(c.verdicts, verdict{a: a, b: b}, verdict{a: b, b: a})
				}
			}
			contests = append(contests, c)
		}
	}
	return contests
}

// chooses says whether a candidate on an aspect is among the first Asked of Of by rank: that part of all ranks is
// below the bound, whatever else there is.
func (c Config) chooses(candidateID, aspect string) bool {
	if c.Of == 0 {
		return c.Asked > 0
	}
	place, _ := bits.Mul64(schemas.Rank(c.Seed, "judgment pairs/"+candidateID+"/"+aspect), uint64(c.Of))
	return place < uint64(c.Asked)
}

// different are the slate's judgments of a candidate on an aspect by sample, of those with one text the first.
func different(slate schemas.Slate, candidateID, aspect string) []schemas.Judgment {
	var of []schemas.Judgment
	for _, j := range slate.Judgments {
		if j.CandidateID == candidateID && j.Aspect == aspect {
			of = append(of, j)
		}
	}
	slices.SortStableFunc(of, func(a, b schemas.Judgment) int { return int(a.Sample) - int(b.Sample) })
	var out []schemas.Judgment
	for _, j := range of {
		if !slices.ContainsFunc(out, func(o schemas.Judgment) bool { return o.Answer == j.Answer }) {
			out = append(out, j)
		}
	}
	return out
}

// ask asks for one verdict until it parses.
func (fn *pairFn) ask(ctx context.Context, slate schemas.Slate, c *contest, v *verdict) (err error) {
	a, b := c.answers[v.a], c.answers[v.b]
	messages, id := fn.Config.Templates.AboutAnswers(c.aspect, slate.Prompt.Text, a.Answer, b.Answer)
	q := judge.Question{
		Messages: messages, Images: [2]string{slate.Raw.SHA256, c.candidate.Image.SHA256}, Template: id, Parse: judge.ParseAnswers,
	}
	v.reply, v.asked, err = fn.desk.Asker.Insist(ctx, q, fn.Config.Attempts(), func(attempt int) int64 {
		return schemas.Seed(fn.Config.Seed, "metajudge", a.ID+"/"+b.ID, attempt*1000)
	})
	if err != nil {
		return fmt.Errorf("candidate %s, %s: %w", c.candidate.ID, c.aspect, err)
	}
	return nil
}

// A rating is the mean of an answer's n scores, whose sum is in thousandths. n is 0 for an answer without any.
type rating struct{ milli, n int64 }

// above is how much r is above o, in parts of unit(r, o).
func (r rating) above(o rating) int64 { return r.milli*o.n - o.milli*r.n }

func unit(r, o rating) float64 { return 1000 * float64(r.n) * float64(o.n) }

func (r rating) mean() float64 { return float64(r.milli) / (1000 * float64(r.n)) }

// settle makes a pair of a contest, or counts why there is none.
func (fn *pairFn) settle(ctx context.Context, slate schemas.Slate, c *contest, out *outcome) error {
	for _, v := range c.verdicts {
		out.usage.Add(v.reply.Usage)
		if v.reply.Fault != "" {
			key := fmt.Sprintf("%s/%s/%d-%d", c.candidate.ID, c.aspect, c.answers[v.a].Sample, c.answers[v.b].Sample)
			out.dead = append(out.dead, deadletter.Row(Stage, key, v.reply.Fault, v.asked, v.reply.Detail, slate.Prompt))
		}
	}
	ratings, compared, flipped := c.rate()
	out.compared += compared
	out.flipped += flipped
	best, worst := -1, -1 // of equals the first
	for i, r := range ratings {
		if r.n == 0 {
			continue
		}
		if best < 0 || r.above(ratings[best]) > 0 {
			best = i
		}
		if worst < 0 || r.above(ratings[worst]) < 0 {
			worst = i
		}
	}
	switch {
	case best < 0:
		detail := fmt.Sprintf("none of %d pairs of answers was compared in both orders", len(c.verdicts)/2)
		out.dead = append(out.dead, deadletter.Row(StagePairs, c.candidate.ID+"/"+c.aspect, TooFewVerdicts, 1, detail, slate.Prompt))
	case ratings[best].above(ratings[worst]) == 0:
		out.equal++
	default:
		pair, err := fn.pair(ctx, slate, c, best, worst, ratings)
		if err != nil {
			return err
		}
		out.pairs = append(out.pairs, pair)
	}
	return nil
}

// rate rates the answers by the pairs that were compared in both orders, and counts those and the flipped of them.
func (c *contest) rate() (ratings []rating, compared, flipped int) {
	ratings = make([]rating, len(c.answers))
	for k := 0; k < len(c.verdicts); k += 2 {
		first, second := c.verdicts[k], c.verdicts[k+1]
		if first.reply.Fault != "" || second.reply.Fault != "" {
			continue
		}
		one, other := first.reply.Scores, second.reply.Scores // of the same answers: other has them swapped
		a, b := &ratings[first.a], &ratings[first.b]
		a.milli += thousandths(one.First) + thousandths(other.Second)
		b.milli += thousandths(one.Second) + thousandths(other.First)
		a.n += 2
		b.n += 2
		compared++
		if (one.First-one.Second)*(other.Second-other.First) < 0 {
			flipped++
		}
	}
	return ratings, compared, flipped
}

// thousandths is exact: scores have three decimals at most.
func thousandths(score float64) int64 { return int64(math.Round(score * 1000)) }

// pair is the row that prefers one answer of a contest to another.
func (fn *pairFn) pair(ctx context.Context, slate schemas.Slate, c *contest, best, worst int, ratings []rating) (schemas.VisionPreferencePair, error) {
	raw, candidate, err := embed.Pictures(ctx, fn.store, slate.Raw, c.candidate.Image)
	if err != nil {
		return schemas.VisionPreferencePair{}, fmt.Errorf("candidate %s: %w", c.candidate.ID, err)
	}
	asked, _ := fn.Config.Templates.Task(c.aspect) // Validate saw to it
	say := func(j schemas.Judgment) []schemas.Message {
		return []schemas.Message{{Role: schemas.RoleAssistant, Content: j.Answer}}
	}
	chosen, rejected, high, low := c.answers[best], c.answers[worst], ratings[best], ratings[worst]
	return schemas.VisionPreferencePair{
		ID:   schemas.JudgmentPairID(chosen.ID, rejected.ID, say(chosen), say(rejected)),
		Kind: schemas.KindJudgment, PromptID: slate.Prompt.ID,
		Prompt: asked.Messages(slate.Prompt.Text), Chosen: say(chosen), Rejected: say(rejected),
		Images:   []schemas.Image{raw, candidate},
		ChosenID: chosen.ID, RejectedID: rejected.ID,
		ChosenScore: high.mean(), RejectedScore: low.mean(), Margin: float64(high.above(low)) / unit(high, low),
		Policy: chosen.Judge, Judge: fn.desk.Asker.Weights(),
	}, nil
}
