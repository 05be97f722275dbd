package train

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/testdata"
	"github.com/promptmill/promptmill/transforms/judge"
)

// Nearly every row fits its lesson's shape, pictures stand where the lesson puts them, and the judge's parser reads the
// answers.
func TestRows(t *testing.T) {
	onnxtest.NeedLibrary(t)
	folder, err := vlm.Open(t.Context(), filepath.Join("..", "weights", initFolder), vlm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	encoder, err := folder.Encoder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	processor, err := vlm.OpenProcessor(folder.Folder())
	if err != nil {
		t.Fatal(err)
	}
	rows := Sample(t)
	s, err := newSchool(rows, encoder)
	if err != nil {
		t.Fatal(err)
	}
	read := func(parse func(string) (judge.Scores, error)) func(string) bool {
		return func(answer string) bool { _, err := parse(answer); return err == nil }
	}
	for _, c := range []struct {
		kind  string
		shape shape
		valid func(answer string) bool
	}{
		{schemas.TaskRewrite, rewriteShape, func(a string) bool { return a != "" }},
		{schemas.TaskEvaluation, evaluateShape, read(judge.ParseImages)},
		{schemas.TaskJudgment, judgeShape, read(judge.ParseAnswers)},
	} {
		t.Run(c.kind, func(t *testing.T) {
			short := 0
			for _, x := range s.byTask[c.kind] {
				if err := s.read(x); err != nil {
					t.Fatal(err)
				}
				if len(x.task.prompt) != c.shape.prompt || len(x.task.answer) > c.shape.answer {
					short++
					t.Logf("%d tokens, %d of the answer: %q", len(x.task.prompt), len(x.task.answer), x.messages)
				}
				if len(x.task.pictures) != len(x.images) {
					t.Errorf("%d pictures of %d", len(x.task.pictures), len(x.images))
				}
				last := len(x.messages) - 1
				answer := x.messages[last].Content
				if !c.valid(answer) {
					t.Errorf("the answer of row %s cannot be read: %q", x.id, answer)
				}
				// What the gate of a training counts is what is trained on.
				conversation, err := dataset.Conversation(x.messages[:last], x.images)
				if err != nil {
					t.Fatal(err)
				}
				counts, err := processor.Count(conversation, processor.ImageTokens(), answer)
				if want := len(x.task.prompt) + len(x.task.answer); err != nil || counts[0] != want {
					t.Errorf("row %s is counted as %v tokens, %v; want %d", x.id, counts, err, want)
				}
			}
			if n := len(s.byTask[c.kind]); short > n/50 {
				t.Errorf("%d of %d do not fit %+v", short, n, c.shape)
			}
		})
	}
	if _, err := newSchool(Rows{Rewrites: rows.Rewrites}, encoder); err == nil || !strings.Contains(err.Error(), "task evaluation") {
		t.Errorf("a set without pictures: %v", err)
	}
}

// What counts of a judgment are the numbers that must be worked out.
func TestCounted(t *testing.T) {
	_, bpe := Load(t)
	words, err := openTokenizer(t.TempDir(), bpe)
	if err != nil {
		t.Fatal(err)
	}
	answer := words.Encode("image 1 hue 5. score 2\nanswer a: 3 for 2 is 1, 4 for 4 is 0. score 4", false)
	var got []string
	for i, ok := range (task{answer: answer, after: []string{" is", " score"}}).counted(words) {
		if ok {
			got = append(got, strings.TrimSpace(words.Decode(answer[i:i+1], false)))
		}
	}
	if want := []string{"2", "1", "0", "4"}; !slices.Equal(got, want) {
		t.Errorf("%q count, want %q", got, want)
	}
}

// The plain language fits its lesson's shape.
func TestLanguage(t *testing.T) {
	prompts, bpe := Load(t)
	words, err := openTokenizer(t.TempDir(), bpe)
	if err != nil {
		t.Fatal(err)
	}
	r := newRewritings(prompts, Training, words)
	rng := rand.New(rand.NewPCG(1, 2))
	short := 0
	for range 400 {
		x, err := r.text(context.Background(), rng)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.prompt) != languageShape.prompt || len(x.answer) > languageShape.answer {
			short++
		}
	}
	if short > 8 {
		t.Errorf("%d of 400 do not fit %+v", short, languageShape)
	}
}

// inputs are the files of WriteInputs by their names, with 500 prompts, and the prompts that they are made of.
func inputs(t *testing.T) (map[string][]byte, []Prompt) {
	t.Helper()
	prompts, bpe := Load(t)
	dir := t.TempDir()
	if err := WriteInputs(dir, prompts, bpe, 500, 1); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range []string{PromptsFile, PairsFile, HeldoutFile} {
		var err error
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return files, prompts
}

// What the supervised set is built from has no prompt that the models are measured on.
func TestInputsHaveNoHeldoutPrompts(t *testing.T) {
	files, prompts := inputs(t)
	texts := map[string][]string{}
	for _, name := range []string{PromptsFile, PairsFile, HeldoutFile} {
		for d := json.NewDecoder(bytes.NewReader(files[name])); d.More(); {
			var row struct{ Prompt, Raw, Rewritten string }
			if err := d.Decode(&row); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(row.Rewritten, row.Raw) {
				t.Fatalf("%+v", row)
			}
			texts[name] = append(texts[name], row.Prompt+row.Raw)
		}
	}
	if n := len(texts[PromptsFile]); n != 500 {
		t.Errorf("%d prompts, want 500", n)
	}
	heldout := map[string]bool{}
	for _, p := range texts[HeldoutFile] {
		heldout[scene.Normalize(p)] = true
	}
	for _, p := range prompts {
		if PartOf(p.Raw) != Training && !heldout[scene.Normalize(p.Raw)] {
			t.Fatalf("%q is not among the held-out prompts", p.Raw)
		}
	}
	for _, name := range []string{PromptsFile, PairsFile} {
		for _, p := range texts[name] {
			if heldout[scene.Normalize(p)] {
				t.Errorf("%s has %q", name, p)
			}
		}
	}
}

// The pairs that come with promptmill are those that are written.
func TestPairsThatComeAlong(t *testing.T) {
	files, _ := inputs(t)
	if !bytes.Equal(unpacked(t, testdata.Files, "prompts/rewritings.jsonl.gz"), files[PairsFile]) {
		t.Error("testdata/prompts/rewritings.jsonl.gz is another; run `go run rewritings.go` there")
	}
}
