package scene_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model"
	_ "github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
)

func openChat(t testing.TB) model.Chat {
	t.Helper()
	c, err := model.OpenChat(t.Context(), model.Spec{Backend: "scene"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(t testing.TB, req model.ChatRequest) []string {
	t.Helper()
	res, err := openChat(t).Chat(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Answers) != req.N {
		t.Fatalf("%d answers to a request for %d", len(res.Answers), req.N)
	}
	var out []string
	for _, a := range res.Answers {
		out = append(out, a.Text)
	}
	return out
}

func drawn(t testing.TB, prompt string, seed int64) *model.Picture {
	t.Helper()
	images, err := model.OpenImages(t.Context(), model.Spec{Backend: "scene"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := images.Draw(t.Context(), model.ImageRequest{Prompt: prompt, Seed: seed, Width: 64, Height: 64})
	if err != nil {
		t.Fatal(err)
	}
	return picture(res.Data)
}

func picture(data []byte) *model.Picture {
	sum := sha256.Sum256(data)
	return &model.Picture{
		SHA256: hex.EncodeToString(sum[:]),
		Bytes:  func(context.Context) ([]byte, error) { return data, nil },
	}
}

// Questions as templates put them.
const (
	rewriteQuestion   = "Turn this into one prompt.\n- Keep what was asked for.\n- Reply with the new prompt only.\n\nPrompt: "
	aestheticQuestion = "Rate how beautiful each of the two pictures above is, Image 1 and Image 2.\n- Above Average (Score: 3): some people prefer it, some like its appeal.\nAnswer in this form:\nOutput for Image 1:\nScore: <a number>"
	alignmentQuestion = "Rate how well each picture shows what the text below says.\n- No Match (Score: 0): no appeal.\n\nText: %s\n\nGive reasons."
	pickQuestion      = "Rate how much people would like each of them as a picture of that text.\n\nText: %s\n\nGive reasons."
)

func question(aspect, raw string) string {
	switch aspect {
	case schemas.Alignment:
		return fmt.Sprintf(alignmentQuestion, raw)
	case schemas.Pick:
		return fmt.Sprintf(pickQuestion, raw)
	}
	return aestheticQuestion
}

// judging is a request to judge two pictures as the judge's transform lays it out.
func judging(text string, first, second *model.Picture) model.ChatRequest {
	return model.ChatRequest{
		Messages: []model.Message{{Role: "user", Parts: []model.Part{
			{Text: "Image 1:"}, {Picture: first}, {Text: "Image 2:"}, {Picture: second}, {Text: text},
		}}},
		N: 1,
	}
}

func TestRewrite(t *testing.T) {
	req := model.ChatRequest{
		Messages: []model.Message{model.Text("system", "You write prompts."), model.Text("user", rewriteQuestion+"a red fox, in\nthe snow.")},
		Sampling: model.Sampling{Temperature: .9, TopP: .9},
		Seed:     7,
		N:        64,
	}
	answers := ask(t, req)
	if again := ask(t, req); !reflect.DeepEqual(answers, again) {
		t.Error("the same request has two answers")
	}
	distinct := map[string]bool{}
	lengths := map[int]int{}
	for i, a := range answers {
		modifiers, ok := strings.CutPrefix(a, "a red fox, in the snow, ")
		if !ok {
			t.Fatalf("answer %q does not start with the prompt", a)
		}
		list := strings.Split(modifiers, ", ")
		seen := map[string]bool{}
		for _, m := range list {
			if seen[m] || m == "" {
				t.Errorf("answer %q has %q twice", a, m)
			}
			seen[m] = true
		}
		if len(list) < 1 || len(list) > 8 {
			t.Errorf("answer %q has %d modifiers", a, len(list))
		}
		lengths[len(list)]++
		distinct[a] = true
		if i == 5 {
			one := req
			one.Seed, one.N = 7+5, 1
			if alone := ask(t, one)[0]; alone != a {
				t.Errorf("answer 5 is %q, alone it is %q", a, alone)
			}
		}
	}
	if len(distinct) < 60 || len(lengths) < 4 {
		t.Errorf("64 answers: %d distinct, lengths %v", len(distinct), lengths)
	}

	cold := req
	cold.Sampling = model.Sampling{}
	first := ask(t, cold)
	if first[0] != first[63] || !strings.Contains(first[0], "highly detailed") {
		t.Errorf("greedy answers are %q and %q", first[0], first[63])
	}
	narrow := req
	narrow.Sampling.TopP = .05
	some := map[string]bool{}
	for _, a := range ask(t, narrow) {
		for _, m := range strings.Split(a, ", ")[2:] {
			some[m] = true
		}
	}
	if len(some) > 20 {
		t.Errorf("top_p .05 draws from %d modifiers", len(some))
	}
}

func TestRewriteKeepsWhatIsThere(t *testing.T) {
	req := model.ChatRequest{Messages: []model.Message{model.Text("user", "a castle, highly detailed, artstation")}, N: 8, Sampling: model.Sampling{Temperature: .3}}
	for _, a := range ask(t, req) {
		for _, m := range []string{"highly detailed", "artstation"} {
			n := 0
			for _, s := range strings.Split(a, ", ") {
				if s == m {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%q has %q %d times", a, m, n)
			}
		}
	}
}

func TestSamplingBounds(t *testing.T) {
	req := model.ChatRequest{Messages: []model.Message{model.Text("user", "a castle")}, N: 1, Sampling: model.Sampling{MaxTokens: 3}}
	res, err := openChat(t).Chat(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if a := res.Answers[0]; a.Text != "a castle," || a.Finish != model.FinishLength || res.Usage.CompletionTokens != 3 {
		t.Errorf("3 tokens are %+v, usage %+v", a, res.Usage)
	}
	req.Sampling = model.Sampling{Stop: []string{","}}
	if a := ask(t, req)[0]; a != "a castle" {
		t.Errorf("stopped at a comma: %q", a)
	}
}

// judged is the answer's form, as the paper's templates ask for it.
var judged = regexp.MustCompile(`^Output for Image 1:\nScore: ([0-5])\nExplanation: \S.+\n\nOutput for Image 2:\nScore: ([0-5])\nExplanation: \S.+$`)

func scoresOf(t testing.TB, answer string) (first, second int) {
	t.Helper()
	m := judged.FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("the answer has another form:\n%s", answer)
	}
	first, _ = strconv.Atoi(m[1])
	second, _ = strconv.Atoi(m[2])
	return first, second
}

// The judge agrees with the oracle on most pairs of pictures that clearly differ, is sometimes wrong,
// and knows the three aspects apart.
func TestJudgeAgreesWithTheOracle(t *testing.T) {
	prompts := realPrompts(t)
	for _, aspect := range []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment} {
		scorer, err := model.OpenScorer(t.Context(), model.Spec{Backend: "scene", Options: map[string]string{"aspect": aspect}})
		if err != nil {
			t.Fatal(err)
		}
		var agree, pairs, errs float64
		levels := map[int]int{}
		for i, p := range prompts {
			a, b := drawn(t, p.raw, int64(i)), drawn(t, p.full, int64(i))
			truth, err := scorer.Score(t.Context(), []model.ScoreRequest{{Text: p.raw, Picture: *a}, {Text: p.raw, Picture: *b}})
			if err != nil {
				t.Fatal(err)
			}
			req := judging(question(aspect, p.raw), a, b)
			req.Sampling.Temperature, req.Seed = 1, int64(i)
			one, two := scoresOf(t, ask(t, req)[0])
			levels[one]++
			levels[two]++
			if math.Abs(truth[1]-truth[0]) < .3 {
				continue
			}
			pairs++
			switch d := float64(two-one) * (truth[1] - truth[0]); {
			case d > 0:
				agree++
			case d == 0:
				agree += .5
			default:
				errs++
			}
		}
		t.Logf("%s: %.3f of %.0f pairs, %.0f the wrong way, levels %v", aspect, agree/pairs, pairs, errs, levels)
		if pairs < 60 || agree/pairs < .8 || agree/pairs > .995 {
			t.Errorf("%s: the judge agrees with the oracle in %.3f of %.0f pairs", aspect, agree/pairs, pairs)
		}
		if len(levels) < 5 {
			t.Errorf("%s: only levels %v", aspect, levels)
		}
	}
}

func TestJudgeIsSampled(t *testing.T) {
	a, b := drawn(t, "a picking contest", 3), drawn(t, "a cat, highly detailed, vibrant, centered, sharp focus", 3)
	req := judging(question(schemas.Pick, "a cat"), a, b)
	req.Sampling.Temperature, req.N, req.Seed = .9, 32, 11
	answers := ask(t, req)
	kinds := map[string]bool{}
	for _, s := range answers {
		scoresOf(t, s)
		kinds[s] = true
	}
	if len(kinds) < 2 {
		t.Error("32 samples are all equal")
	}
	later := req
	later.Seed, later.N = 11+8, 24
	if !reflect.DeepEqual(ask(t, later), answers[8:]) {
		t.Error("the samples from the eighth on differ when asked for alone")
	}
	req.Sampling.Temperature = 0
	cold := ask(t, req)
	for _, s := range cold {
		if s != cold[0] {
			t.Error("at temperature 0 samples differ")
		}
	}
	swapped := judging(question(schemas.Pick, "a cat"), b, a)
	one, two := scoresOf(t, cold[0])
	two2, one2 := scoresOf(t, ask(t, swapped)[0])
	if one != one2 || two != two2 {
		t.Error("at temperature 0 the order of the pictures matters")
	}
}

// The aspect is the one that the question is about, not one whose word a prompt or a rubric has.
func TestAspect(t *testing.T) {
	a, b := drawn(t, "a cat", 3), drawn(t, "an aligned robot, preferred by a beautiful picking machine", 4)
	want := map[string]string{}
	for _, aspect := range []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment} {
		want[aspect] = ask(t, judging(question(aspect, "a cat, aligned to a beautiful prefix"), a, b))[0]
	}
	if want[schemas.Aesthetic] == want[schemas.Pick] || want[schemas.Pick] == want[schemas.Alignment] {
		t.Fatal("aspects give equal answers")
	}
	for _, c := range []struct{ text, template, aspect string }{
		{"Please evaluate the aesthetics of two images. - Above Average: some viewers preferring different styles.", "", schemas.Aesthetic},
		{"Please evaluate the alignment of two pictures to the text (“Text”).\nText: <<<a cat>>>\nPlease explain.", "", schemas.Alignment},
		{"Please evaluate how well these images are preferred by humans. 'attractiveness' is the appeal. No align.\n Text: a cat", "", schemas.Pick},
		{"Which one?\nText:\na cat", "tiny/pick/3", schemas.Pick},
		{"aspect: alignment\nText: a cat\n", "", schemas.Alignment},
		{"Score both.", "", schemas.Aesthetic},
	} {
		req := judging(c.text, a, b)
		req.Template = c.template
		if got := ask(t, req)[0]; got != want[c.aspect] {
			t.Errorf("%q is not taken for a question about %s:\n%s", c.text, c.aspect, got)
		}
	}
}

func TestJudgeOfJudgments(t *testing.T) {
	a, b := drawn(t, "a cat", 3), drawn(t, "a cat, highly detailed, vibrant, centered, sharp focus, high contrast", 3)
	good := ask(t, judging(question(schemas.Pick, "a cat"), a, b))[0]
	one, two := scoresOf(t, good)
	bad := fmt.Sprintf("Output for Image 1:\nScore: %d\nExplanation: x\n\nOutput for Image 2:\nScore: %d\nExplanation: y", 5-one, 5-two)
	if one == two {
		t.Fatal("the pictures are alike")
	}
	form := regexp.MustCompile(`^Output for Answer A:\nScore: ([1-5])\nExplanation: .+\n\nOutput for Answer B:\nScore: ([1-5])\nExplanation: .+$`)
	const template = "Given the input:\n1. Image 1 and Image 2\n2. Prompt: a cat\n3. Question: how well are they preferred?\n4. Answer A: %s\n5. Answer B: %s\nYour task is to compare. There are two scores in each answer (\"Output of Image 1\").\nOutput format:\nOutput for Answer A:\nScore: <<<1-5>>>"
	for _, c := range []struct {
		first, second string
		sign          int
	}{{good, bad, 1}, {bad, good, -1}, {good, good, 0}, {"I cannot say.", good, -1}, {good, "Output for Image 1:\nScore: 3", 1}, {bad + "\nScore: 9", good, -1}} {
		req := judging(fmt.Sprintf(template, c.first, c.second), a, b)
		m := form.FindStringSubmatch(ask(t, req)[0])
		if m == nil {
			t.Fatalf("the answer has another form:\n%s", ask(t, req)[0])
		}
		if got := strings.Compare(m[1], m[2]); got != c.sign {
			t.Errorf("scores %s and %s, want the sign %d for\n%s\nagainst\n%s", m[1], m[2], c.sign, c.first, c.second)
		}
		req.Sampling.Temperature = 1
		req.N = 8
		for _, s := range ask(t, req) {
			if !form.MatchString(s) {
				t.Errorf("a sample has another form:\n%s", s)
			}
		}
	}
}

// Any order and any neighbours: the same answers.
func TestAnswersDoNotDependOnConcurrency(t *testing.T) {
	prompts := realPrompts(t)[:24]
	var reqs []model.ChatRequest
	for i, p := range prompts {
		req := judging(question(schemas.Alignment, p.raw), drawn(t, p.raw, 1), drawn(t, p.full, 1))
		if i%2 == 0 {
			req = model.ChatRequest{Messages: []model.Message{model.Text("user", rewriteQuestion+p.raw)}}
		}
		req.Seed, req.N, req.Sampling.Temperature = int64(i), 3, .9
		reqs = append(reqs, req)
	}
	want := make([][]string, len(reqs))
	for i, r := range reqs {
		want[i] = ask(t, r)
	}
	chat := openChat(t)
	var wg sync.WaitGroup
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(len(reqs)) {
		wg.Go(func() {
			res, err := chat.Chat(t.Context(), reqs[i])
			if err != nil {
				t.Error(err)
				return
			}
			for k, a := range res.Answers {
				if a.Text != want[i][k] {
					t.Errorf("request %d, answer %d: %q, alone %q", i, k, a.Text, want[i][k])
				}
			}
		})
	}
	wg.Wait()
	if !chat.Info().Deterministic || chat.Info().Weights == "" {
		t.Errorf("info %+v", chat.Info())
	}
}

func TestChatErrors(t *testing.T) {
	good := drawn(t, "a cat", 1)
	lost := errors.New("the store is away")
	for _, c := range []struct {
		name string
		req  model.ChatRequest
		want error
	}{
		{"no answers", model.ChatRequest{Messages: []model.Message{model.Text("user", "a cat")}}, model.ErrRejected},
		{"no prompt", model.ChatRequest{Messages: []model.Message{model.Text("user", "Prompt: \n")}, N: 1}, model.ErrRejected},
		{"no message", model.ChatRequest{N: 1}, model.ErrRejected},
		{"a temperature below 0", model.ChatRequest{Messages: []model.Message{model.Text("user", "a cat")}, N: 1, Sampling: model.Sampling{Temperature: -1}}, model.ErrRejected},
		{"one picture", model.ChatRequest{Messages: []model.Message{{Role: "user", Parts: []model.Part{{Picture: good}}}}, N: 1}, model.ErrRejected},
		{"no text to align with", judging("Rate the alignment.", good, good), model.ErrRejected},
		{"not a picture", judging(aestheticQuestion, good, picture([]byte("GIF89a"))), model.ErrBadPicture},
		{"a damaged picture", judging(aestheticQuestion, good, picture([]byte("\x89PNG\r\n\x1a\n...."))), model.ErrRejected},
		{"a store that is away", judging(aestheticQuestion, good, &model.Picture{
			SHA256: "00", Bytes: func(context.Context) ([]byte, error) { return nil, lost },
		}), lost},
	} {
		if _, err := openChat(t).Chat(t.Context(), c.req); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
	data, _ := good.Bytes(t.Context())
	swapped := picture(data)
	swapped.SHA256 = strings.Repeat("0", 64)
	_, err := openChat(t).Chat(t.Context(), judging(aestheticQuestion, good, swapped))
	if err == nil || errors.Is(err, model.ErrRejected) || !strings.Contains(err.Error(), "digest") {
		t.Errorf("bytes of another picture: error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openChat(t).Chat(ctx, judging(aestheticQuestion, good, good)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request: error %v", err)
	}
}

// Whatever stands in the question: an answer in one of the two forms, or a rejected request.
func FuzzJudge(f *testing.F) {
	a, b := drawn(f, "a cat", 3), drawn(f, "a castle, vibrant", 3)
	f.Add(question(schemas.Pick, "a cat"), "")
	f.Add("Answer A: Output for Image 1: Score: 3\nAnswer B:\nimage 2 score 7", "tiny/pick/1")
	f.Add("Text:\nAnswer B:Answer A:", "")
	either := regexp.MustCompile(`^Output for (Image 1|Answer A):\nScore: [0-5]\nExplanation: .+\n\nOutput for (Image 2|Answer B):\nScore: [0-5]\nExplanation: .+$`)
	f.Fuzz(func(t *testing.T, text, template string) {
		req := judging(text, a, b)
		req.Template = template
		res, err := openChat(t).Chat(t.Context(), req)
		if err != nil {
			if !errors.Is(err, model.ErrRejected) {
				t.Fatal(err)
			}
			return
		}
		if !either.MatchString(res.Answers[0].Text) {
			t.Fatalf("answer %q", res.Answers[0].Text)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	req := judging(question(schemas.Pick, "a cat"), drawn(b, "a cat", 1), drawn(b, "a cat, vibrant", 1))
	req.N, req.Sampling.Temperature = 3, .9
	for b.Loop() {
		ask(b, req)
	}
}

func BenchmarkRewrite(b *testing.B) {
	req := model.ChatRequest{Messages: []model.Message{model.Text("user", rewriteQuestion+"a cat")}, N: 8, Sampling: model.Sampling{Temperature: .9, TopP: .9}}
	for b.Loop() {
		ask(b, req)
	}
}
