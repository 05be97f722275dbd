package schemas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
)

var update = flag.Bool("update", false, "rewrite golden files")

func ptr(x float64) *float64 { return &x }

var (
	question = []schemas.Message{{Role: schemas.RoleSystem, Content: "rewrite"}, {Role: schemas.RoleUser, Content: "a cat"}}
	good     = []schemas.Message{{Role: schemas.RoleAssistant, Content: "a cat, oil on canvas"}}
	bad      = []schemas.Message{{Role: schemas.RoleAssistant, Content: "cat"}}
	picture  = schemas.Image{Bytes: []byte("\x89PNG\x00"), Path: "a.png"}

	prompt    = schemas.Prompt{ID: schemas.PromptID("a cat"), Text: "a cat", Source: "s"}
	pair      = schemas.RewritePair{ID: schemas.PairID("a cat", "a cat, oil"), Raw: "a cat", Rewritten: "a cat, oil"}
	candidate = schemas.Candidate{ID: "c1", PromptID: "p1", Text: "a cat, oil"}
	judgment  = schemas.Judgment{ID: "j1", PromptID: "p1", CandidateID: "c1", Aspect: schemas.Pick, Answer: "0, 4.5", Score2: 4.5, Decimal: true}
	reward    = schemas.Reward{CandidateID: "c1", PromptID: "p1", Aesthetic: ptr(0), Pick: ptr(4.5), Total: 4.5, Samples: 6}
	pref      = schemas.PreferencePair{ID: "x1", Kind: schemas.KindRewrite, PromptID: "p1", Prompt: question, Chosen: good, Rejected: bad, ChosenScore: 3, RejectedScore: 0, Margin: 3}
	chat      = schemas.ChatExample{ID: "e1", Task: schemas.TaskRewrite, Messages: slices.Concat(question, good)}
	rejected  = schemas.Rejected{Stage: "judge", Key: "p1", Reason: "refused"}

	shot       = schemas.ImageRef{SHA256: strings.Repeat("0a", 32), Width: 32, Height: 32}
	fact       = schemas.Fact{ID: "f1", Group: "g1", Aspect: schemas.Pick, Prompt: "a cat", First: shot, Second: shot, FirstID: "s/1", SecondID: "s/2", Preference: schemas.First, FactSource: schemas.FactHuman, FirstScore: ptr(5), SecondScore: ptr(0)}
	evaluation = schemas.Evaluation{ID: "v1", Group: "g1", FactID: "f1", Aspect: schemas.Pick, Preference: schemas.First, FactSource: schemas.FactHuman, Messages: slices.Concat(question, good), Images: []schemas.Image{picture, picture}, Order: schemas.Swapped, Score1: 0, Score2: 4, Teacher: "t"}
	judging    = schemas.JudgmentExample{ID: "w1", Group: "g1", FactID: "f1", Aspect: schemas.Pick, FactSource: schemas.FactHuman, StandardID: "v1", IrrelevantID: "v2", Messages: slices.Concat(question, good), Images: []schemas.Image{picture, picture}, Standard: schemas.AnswerB, StandardScore: 5, IrrelevantScore: 1, Score2: 4, Teacher: "t"}

	visionPref = schemas.VisionPreferencePair{ID: "x1", Kind: schemas.KindJudgment, PromptID: "p1", Prompt: question, Chosen: good, Rejected: bad, Images: []schemas.Image{picture, picture}, ChosenScore: 3, RejectedScore: 0, Margin: 3}
	visionChat = schemas.VisionChatExample{ID: "e1", Task: schemas.TaskJudgment, Messages: slices.Concat(question, good), Images: []schemas.Image{picture}}
)

// with returns a copy of row that change was applied to.
func with[T any](row T, change func(*T)) T {
	change(&row)
	return row
}

func TestTables(t *testing.T) {
	testTable(t, "prompt", prompt)
	testTable(t, "rewrite_pair", pair)
	testTable(t, "candidate", candidate)
	testTable(t, "judgment", judgment)
	testTable(t, "reward", reward)
	testTable(t, "preference_pair", pref)
	testTable(t, "vision_preference_pair", visionPref)
	testTable(t, "chat_example", chat)
	testTable(t, "vision_chat_example", visionChat)
	testTable(t, "rejected", rejected)
	testTable(t, "fact", fact)
	testTable(t, "evaluation", evaluation)
	testTable(t, "judgment_example", judging)
}

// testTable compares schema and features of T with the golden file, which is the contract with readers
// of published data sets (a diff here is a schema change), and sees row through a file and back.
func testTable[T schemas.Row](t *testing.T, name string, row T) {
	t.Run(name, func(t *testing.T) {
		table := schemas.TableOf[T]()
		var features bytes.Buffer
		if err := json.Indent(&features, []byte(table.HuggingFace()), "", "  "); err != nil {
			t.Fatal(err)
		}
		got := table.Schema().String() + "\n\n" + features.String() + "\n"
		golden := filepath.Join("testdata", name+".schema")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("schema changed (-want +got):\n%s", diff)
		}
		if strings.Contains(got, "required") {
			t.Error("a level is not nullable: readers of the Hugging Face metadata would ignore it")
		}

		var zero T
		rows := []T{row, zero}
		back, nulls := throughFile(t, rows)
		// A list of no elements comes back empty, not nil.
		same := cmp.Comparer(func(a, b []schemas.Message) bool { return slices.Equal(a, b) })
		images := cmp.Comparer(func(a, b []schemas.Image) bool { return len(a) == len(b) && (len(a) == 0 || cmp.Equal(a[0], b[0])) })
		metrics := cmp.Comparer(func(a, b []schemas.Metric) bool { return slices.Equal(a, b) })
		if diff := cmp.Diff(rows, back, same, images, metrics); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
		for column, n := range nulls {
			if n != 0 && !slices.Contains([]string{"aesthetic", "pick", "alignment", "first_score", "second_score"}, column) {
				t.Errorf("column %s has %d nulls", column, n)
			}
		}
	})
}

// throughFile writes rows and reads them back; nulls counts the nulls of each column without a list.
func throughFile[T schemas.Row](t *testing.T, rows []T) (back []T, nulls map[string]int64) {
	t.Helper()
	table := schemas.TableOf[T]()
	var file bytes.Buffer
	w := parquet.NewGenericWriter[T](&file, table.Schema())
	for i := range rows {
		if _, err := w.WriteRows([]parquet.Row{table.Append(nil, &rows[i])}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	nulls = map[string]int64{}
	for _, c := range f.Metadata().RowGroups[0].Columns {
		if !slices.Contains(c.MetaData.PathInSchema, "list") {
			nulls[strings.Join(c.MetaData.PathInSchema, ".")] = c.MetaData.Statistics.NullCount
		}
	}
	r := parquet.NewGenericReader[T](f)
	defer r.Close()
	back = make([]T, len(rows))
	if n, err := r.Read(back); n != len(rows) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %d of %d rows: %v", n, len(rows), err)
	}
	return back, nulls
}

func TestAppendReplacesBadUTF8(t *testing.T) {
	row := with(rejected, func(r *schemas.Rejected) { r.Detail = "caf\xc3" })
	back, _ := throughFile(t, []schemas.Rejected{row})
	if back[0].Detail != "caf\uFFFD" {
		t.Errorf("got %q", back[0].Detail)
	}
}

// required is a row type with a column that cannot be null.
type required struct {
	schemas.Prompt
	ID string `parquet:"id"`
}

func TestTableOfPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a column that is not nullable was accepted")
		}
	}()
	schemas.TableOf[required]()
}

func TestSum(t *testing.T) {
	texts := []string{"a", "b", "c", "a"}
	sum := func(order ...int) (s schemas.Sum) {
		var h schemas.Hasher
		for _, i := range order {
			s.Add(h.Row(schemas.TableOf[schemas.Prompt]().Append(nil, &schemas.Prompt{Text: texts[i]})))
		}
		return s
	}
	want := sum(0, 1, 2, 3)
	for _, order := range [][]int{{3, 2, 1, 0}, {1, 0, 3, 2}} {
		if got := sum(order...); got != want {
			t.Errorf("order %v: %v, want %v", order, got, want)
		}
	}
	for _, other := range [][]int{{0, 1, 2}, {0, 1, 1, 2}, {0, 0, 0, 1, 2}, {}} {
		if sum(other...) == want {
			t.Errorf("rows %v have the sum of other rows", other)
		}
	}
	// The canonical form is a promise to sets already published: this value may not change.
	if got := sum(0).String(); got != "8c19e4575a512b91a50e16ab5bda75854f61458b52e7abbf15d4291fb939578f" {
		t.Errorf("canonical form changed: %s", got)
	}
	back, err := schemas.ParseSum(want.String())
	if err != nil || back != want {
		t.Errorf("ParseSum: %v, %v", back, err)
	}
	for _, text := range []string{"", "zz", strings.Repeat("g", 64), strings.Repeat("0", 66)} {
		if _, err := schemas.ParseSum(text); err == nil {
			t.Errorf("ParseSum(%q) accepted", text)
		}
	}
}

func TestSumCarries(t *testing.T) {
	ones, err := schemas.ParseSum(strings.Repeat("f", 64))
	if err != nil {
		t.Fatal(err)
	}
	two, err := schemas.ParseSum(strings.Repeat("0", 63) + "2")
	if err != nil {
		t.Fatal(err)
	}
	ones.Add(two)
	if want := strings.Repeat("0", 63) + "1"; ones.String() != want {
		t.Errorf("2^256-1 + 2 = %v", ones)
	}
}

// A row is told from every row that differs in one value, whether or not the columns line up.
func TestSumTellsRowsApart(t *testing.T) {
	seen := map[schemas.Sum]int{}
	table := schemas.TableOf[schemas.PreferencePair]()
	var h schemas.Hasher
	for i, change := range []func(*schemas.PreferencePair){
		func(*schemas.PreferencePair) {},
		func(r *schemas.PreferencePair) { r.ID, r.Kind = "x1rewrite", "" },
		func(r *schemas.PreferencePair) { r.Margin = math.Copysign(0, -1) },
		func(r *schemas.PreferencePair) { r.Margin = 0 },
		func(r *schemas.PreferencePair) { r.Prompt, r.Chosen = nil, slices.Concat(question, good) },
		func(r *schemas.PreferencePair) { r.Prompt = []schemas.Message{{Role: "systemuser"}, {}} },
		func(r *schemas.PreferencePair) { r.Prompt = []schemas.Message{{}} },
		func(r *schemas.PreferencePair) { r.Prompt = nil },
	} {
		row := with(pref, change)
		s := h.Row(table.Append(nil, &row))
		if j, ok := seen[s]; ok {
			t.Errorf("rows %d and %d have one sum", i, j)
		}
		seen[s] = i
	}
	row := with(pref, func(r *schemas.PreferencePair) { r.Prompt = []schemas.Message{} })
	if _, ok := seen[h.Row(table.Append(nil, &row))]; !ok {
		t.Error("an empty list and a nil one are not one value")
	}
}
