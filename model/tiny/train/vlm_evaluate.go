package train

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
)

// A Parser reads the two scores that an answer states.
type Parser func(answer string) (first, second float64, err error)

// An Examination measures a vision-language model on held-out prompts, through the contract that everybody uses.
type Examination struct {
	Chat model.Chat
	// Pool are the pictures, of prompts that nothing was trained on.
	Pool *Pool
	// Images and Answers read answers about pictures and about answers.
	Images, Answers Parser
	// Comparisons are how many pairs are asked about for each aspect; Judgments how many of them are asked about three times,
	// to judge those answers; Rewrites how many prompts are rewritten.
	Comparisons, Judgments, Rewrites int
	Seed                             uint64
}

// A JudgeScore is how well pictures are judged by an aspect.
type JudgeScore struct {
	Aspect string `json:"aspect"`
	// Accuracy is the share of agreement with noisy human preferences where a tie of one side counts half; Ceiling is that of
	// the truth itself. An answer that cannot be read is a tie.
	Accuracy float64 `json:"accuracy"`
	Ceiling  float64 `json:"ceiling"`
	// Difference is the correlation of the difference between the two scores with the true one: 0 for a judge that gives
	// both pictures the same, whatever its accuracy.
	Difference float64 `json:"difference"`
	Parsable   float64 `json:"parsable"`
	Asked      int     `json:"asked"`
}

// A VLMReport is what an examination found.
type VLMReport struct {
	Judge []JudgeScore `json:"judge"`
	// Judgment is how often, of two of the model's own answers that it grades differently, the one it prefers is nearer to the
	// facts; those as near as each other do not count. A coin has .5. Sure are those whose grades differ by 2 and more.
	Judgment schemas.Share `json:"judgment"`
	Sure     schemas.Share `json:"sure"`
	// Graded is the share of judgments that can be read.
	Graded schemas.Share `json:"graded"`
	// Rewriting is the share of rewritings that are a list of modifiers: ended by the model, none empty or overlong. Repeating
	// is the share that has a modifier twice.
	Rewriting schemas.Share `json:"rewriting"`
	Repeating schemas.Share `json:"repeating"`
	// Distinct is the share of different rewritings.
	Distinct float64 `json:"distinct"`
}

// Run asks all questions.
func (e *Examination) Run(ctx context.Context) (*VLMReport, error) {
	r := &VLMReport{}
	rng := rand.New(rand.NewPCG(e.Seed, 0x6578616d)) // "exam"
	for aspect := range Aspects {
		s, err := e.judge(ctx, rng, aspect)
		if err != nil {
			return nil, err
		}
		r.Judge = append(r.Judge, s)
	}
	if err := e.judgments(ctx, rng, r); err != nil {
		return nil, err
	}
	return r, e.rewrites(ctx, rng, r)
}

// question draws a comparison and asks it as the template set tiny does.
func (e *Examination) question(ctx context.Context, rng *rand.Rand, aspect int) (*Comparison, []model.Message, error) {
	c, err := e.Pool.Compare(ctx, rng, aspect)
	if err != nil {
		return nil, nil, err
	}
	messages, err := pictureMessages("eval "+Aspects[aspect], c, c.Raw)
	return c, messages, err
}

func judgmentMessages(c *Comparison, a, b string) ([]model.Message, error) {
	return pictureMessages("judge "+Aspects[c.Aspect], c, strings.Join([]string{c.Raw, a, b}, "\n---\n"))
}

func pictureMessages(task string, c *Comparison, text string) ([]model.Message, error) {
	user := model.Message{Role: "user"}
	for _, p := range c.Pictures {
		picture, err := p.file()
		if err != nil {
			return nil, err
		}
		user.Parts = append(user.Parts, model.Part{Picture: &picture})
	}
	user.Parts = append(user.Parts, model.Part{Text: text})
	return []model.Message{model.Text("system", task), user}, nil
}

// file is the picture as a PNG.
func (p *Picture) file() (model.Picture, error) {
	img := image.NewNRGBA(image.Rect(0, 0, scene.Side, scene.Side))
	for i := range scene.Side * scene.Side {
		img.SetNRGBA(i%scene.Side, i/scene.Side, color.NRGBA{p.Pixels[3*i], p.Pixels[3*i+1], p.Pixels[3*i+2], 255})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return model.Picture{}, fmt.Errorf("encode a picture: %w", err)
	}
	sum := sha256.Sum256(out.Bytes())
	return model.Picture{SHA256: hex.EncodeToString(sum[:]), Bytes: func(context.Context) ([]byte, error) { return out.Bytes(), nil }}, nil
}

// ask sends the conversations, many at a time, and returns the answers of each in order. A question that is too long for the
// model gets empty ones, which cannot be read.
func (e *Examination) ask(ctx context.Context, all [][]model.Message, s model.Sampling, n int) ([][]model.Answer, error) {
	out := make([][]model.Answer, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i, messages := range all {
		group.Go(func() error {
			response, err := e.Chat.Chat(ctx, model.ChatRequest{Messages: messages, Sampling: s, N: n, Seed: int64(i * n)})
			if errors.Is(err, model.ErrRejected) {
				out[i] = make([]model.Answer, n)
				return nil
			}
			out[i] = response.Answers
			return err
		})
	}
	return out, group.Wait()
}

const longestAnswer = 80 // tokens

var greedy = model.Sampling{MaxTokens: longestAnswer}

// sampled is how the loop draws.
var sampled = model.Sampling{Temperature: .9, TopP: .9, MaxTokens: longestAnswer}

func (e *Examination) judge(ctx context.Context, rng *rand.Rand, aspect int) (JudgeScore, error) {
	s := JudgeScore{Aspect: Aspects[aspect], Asked: e.Comparisons}
	var comparisons []*Comparison
	var all [][]model.Message
	var human []int
	for range e.Comparisons {
		c, messages, err := e.question(ctx, rng, aspect)
		if err != nil {
			return s, err
		}
		comparisons, all, human = append(comparisons, c), append(all, messages), append(human, c.Prefers(rng))
	}
	answers, err := e.ask(ctx, all, greedy, 1)
	if err != nil {
		return s, err
	}
	var stated, truth []float64
	for i, c := range comparisons {
		first, second, err := e.Images(answers[i][0].Text)
		if err == nil {
			s.Parsable++
			stated, truth = append(stated, first-second), append(truth, c.Difference())
		} else {
			first, second = 0, 0
		}
		s.Accuracy += agreement(choice(first-second), human[i])
		s.Ceiling += agreement(prefers(c.Difference()), human[i])
	}
	n := float64(max(1, e.Comparisons))
	s.Accuracy, s.Ceiling, s.Parsable = s.Accuracy/n, s.Ceiling/n, s.Parsable/n
	s.Difference = correlation(stated, truth)
	return s, nil
}

func choice(difference float64) int {
	switch {
	case difference == 0:
		return 0
	case difference > 0:
		return 1
	}
	return 2
}

// agreement is PickScore's rule (Kirstain et al. 2023): a tie of one side alone is half right.
func agreement(a, b int) float64 {
	switch {
	case a == b:
		return 1
	case a == 0 || b == 0:
		return .5
	}
	return 0
}

// judgments lets the model answer three times and compares the first of its answers with the other two, each pair in both
// orders.
func (e *Examination) judgments(ctx context.Context, rng *rand.Rand, r *VLMReport) error {
	var comparisons []*Comparison
	var all [][]model.Message
	for i := range e.Judgments {
		c, messages, err := e.question(ctx, rng, i%len(Aspects))
		if err != nil {
			return err
		}
		comparisons, all = append(comparisons, c), append(all, messages)
	}
	answers, err := e.ask(ctx, all, sampled, 3)
	if err != nil {
		return err
	}
	var missed [][2]float64 // by the first and the second answer of a question
	all = nil
	for i, c := range comparisons {
		for _, pair := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
			a, b := answers[i][pair[0]].Text, answers[i][pair[1]].Text
			a1, a2, errA := e.Images(a)
			b1, b2, errB := e.Images(b)
			if errA != nil || errB != nil || a1 == b1 && a2 == b2 {
				continue
			}
			there, err := judgmentMessages(c, a, b)
			if err != nil {
				return err
			}
			back, err := judgmentMessages(c, b, a)
			if err != nil {
				return err
			}
			all, missed = append(all, there, back), append(missed, [2]float64{c.Miss(a1, a2), c.Miss(b1, b2)})
		}
	}
	graded, err := e.ask(ctx, all, greedy, 1)
	if err != nil {
		return err
	}
	var readable, right, of, rightSure, sure int
	for i, m := range missed {
		a1, b1, errThere := e.Answers(graded[2*i][0].Text)
		b2, a2, errBack := e.Answers(graded[2*i+1][0].Text)
		for _, err := range []error{errThere, errBack} {
			if err == nil {
				readable++
			}
		}
		margin := a1 + a2 - b1 - b2
		if errThere != nil || errBack != nil || margin == 0 || m[0] == m[1] {
			continue
		}
		correct := 0
		if (margin > 0) == (m[0] < m[1]) {
			correct = 1
		}
		right, of = right+correct, of+1
		if math.Abs(margin) >= 4 {
			rightSure, sure = rightSure+correct, sure+1
		}
	}
	r.Graded = schemas.NewShare(float64(readable), int64(2*len(missed)))
	r.Judgment, r.Sure = schemas.NewShare(float64(right), int64(of)), schemas.NewShare(float64(rightSure), int64(sure))
	return nil
}

func (e *Examination) rewrites(ctx context.Context, rng *rand.Rand, r *VLMReport) error {
	const each = 4
	var all [][]model.Message
	for range e.Rewrites {
		row, err := e.Pool.Any(ctx, rng)
		if err != nil {
			return err
		}
		all = append(all, []model.Message{model.Text("system", "rewrite"), model.Text("user", row.Raw)})
	}
	answers, err := e.ask(ctx, all, sampled, each)
	if err != nil {
		return err
	}
	var valid, repeating float64
	distinct := map[string]bool{}
	for _, of := range answers {
		for _, a := range of {
			ok, twice := isRewriting(a)
			if ok {
				valid++
			}
			if twice {
				repeating++
			}
			distinct[a.Text] = true
		}
	}
	n := each * e.Rewrites
	r.Rewriting, r.Repeating = schemas.NewShare(valid, int64(n)), schemas.NewShare(repeating, int64(n))
	r.Distinct = float64(len(distinct)) / float64(max(1, n))
	return nil
}

// isRewriting says whether an answer is a list of modifiers, and whether it has one twice.
func isRewriting(a model.Answer) (valid, repeating bool) {
	valid = a.Finish == model.FinishStop
	seen := map[string]bool{}
	for p := range strings.SplitSeq(a.Text, ",") {
		p = strings.TrimSpace(p)
		valid = valid && p != "" && len(p) <= longestModifier
		repeating = repeating || seen[p]
		seen[p] = true
	}
	return valid, repeating
}

// correlation is Pearson's r, and 0 where one side does not vary.
func correlation(x, y []float64) float64 {
	var sx, sy, xx, yy, xy float64
	for i := range x {
		sx, sy, xx, yy, xy = sx+x[i], sy+y[i], xx+x[i]*x[i], yy+y[i]*y[i], xy+x[i]*y[i]
	}
	n := float64(max(1, len(x)))
	vx, vy := xx/n-sx/n*sx/n, yy/n-sy/n*sy/n
	if vx <= 0 || vy <= 0 {
		return 0
	}
	return (xy/n - sx/n*sy/n) / math.Sqrt(vx*vy)
}
