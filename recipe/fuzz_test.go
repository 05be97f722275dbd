package recipe_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/promptmill/promptmill/recipe"
)

// FuzzParse: whatever the text, there is no panic and an answer soon; what is read prints to the same
// values with every comment; and an empty recipe over it changes nothing.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range txtar.Parse(text).Files {
			f.Add(part.Data)
		}
	}
	f.Add([]byte(`labels: {a: "\x85\x7f\U000E0001 \ufeff\u2028", "\x01": b}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		start := time.Now()
		d, err := recipe.Parse("f", text)
		if err != nil {
			if d != nil || !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("a fault without a place: %v", err)
			}
			return
		}
		values, fault := decode(d)
		printed := d.Bytes()
		again, err := recipe.Parse("f", printed)
		if err != nil {
			t.Fatalf("what was printed cannot be read: %v\n%s", err, printed)
		}
		if twice := again.Bytes(); !bytes.Equal(twice, printed) {
			t.Errorf("printed again it differs:\n%s\n---\n%s", printed, twice)
		}
		if !bytes.ContainsAny(text, "&*") && !bytes.Equal(printed, []byte("{}\n")) && comments(text) != comments(printed) {
			t.Errorf("%d comments became %d:\n%s\n---\n%s", comments(text), comments(printed), text, printed)
		}
		if same, f := decode(again); !bytes.Equal(same, values) || (f == nil) != (fault == nil) {
			t.Errorf("printed, %s, %v\nbecame %s, %v", values, fault, same, f)
		}
		if !bytes.Contains(text, []byte("extends")) {
			over, err := recipe.Parse("over", []byte("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if err := over.Extend(map[string][]byte{"base": text}, "base"); err != nil {
				t.Fatal(err)
			}
			if got := over.Bytes(); !bytes.Equal(got, printed) {
				t.Errorf("extended by nothing:\n%s\n---\n%s", printed, got)
			}
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// FuzzSet: no assignment panics, and what can be set is there afterwards.
func FuzzSet(f *testing.F) {
	for _, a := range []string{"rewrite.temperature=3", "inputs.prompts[0].path=x", "inputs.prompts[1]={limit: 3}", "a.b.c=[1, {x: y}]", "labels.x=", "seed=*a", "x[0][1]=2"} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, assignment string) {
		d, err := recipe.Parse("f", []byte("seed: 1\ninputs:\n  prompts: [{path: a}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Set([]string{assignment}); err != nil {
			if !strings.HasPrefix(err.Error(), "--set ") {
				t.Errorf("a fault without its flag: %v", err)
			}
			return
		}
		values, fault := decode(d)
		if fault != nil && !strings.HasPrefix(fault.Error(), "--set ") {
			t.Errorf("a fault without its flag: %v", fault)
		}
		again, err := recipe.Parse("f", d.Bytes())
		if err != nil {
			t.Fatalf("%v\n%s", err, d.Bytes())
		}
		if same, _ := decode(again); !bytes.Equal(same, values) {
			t.Errorf("%s became %s", values, same)
		}
	})
}

func decode(d *recipe.Document) ([]byte, error) {
	var s sample
	err := d.Decode(&s)
	return recipe.Canonical(s), err
}

func comments(text []byte) (n int) {
	source := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(bytes.TrimPrefix(text, []byte("\ufeff"))))
	for _, tk := range lexer.Tokenize(source) {
		if tk.Type == token.CommentType {
			n++
		}
	}
	return n
}
