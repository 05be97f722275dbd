package recipe_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/recipe"
)

var update = flag.Bool("update", false, "write what the code says into the golden files")

// A sample has a field of every kind that a recipe may hold.
type sample struct {
	Seed    int64 `json:"seed" yaml:"seed"`
	Shared  `yaml:",inline"`
	Inputs  inputs                `json:"inputs" yaml:"inputs"`
	Rewrite rewrite               `json:"rewrite" yaml:"rewrite"`
	Models  map[string]model.Spec `json:"models" yaml:"models"`
	Labels  map[string]string     `json:"labels" yaml:"labels"`
	Gates   *gates                `json:"gates" yaml:"gates"`
	Cache   map[string]int        `json:"-" yaml:"-"`
}

// Shared is embedded, and so exported.
type Shared struct {
	Out   string        `json:"out" yaml:"out"`
	Every time.Duration `json:"every" yaml:"every"`
}

type inputs struct {
	Prompts []source `json:"prompts" yaml:"prompts"`
}

type source struct {
	Path  string `json:"path" yaml:"path"`
	Limit uint16 `json:"limit" yaml:"limit"`
	Level level  `json:"level" yaml:"level"`
}

type rewrite struct {
	Temperature float64  `json:"temperature" yaml:"temperature"`
	Candidates  int      `json:"candidates" yaml:"candidates"`
	Stop        []string `json:"stop" yaml:"stop"`
	Template    string   `json:"template" yaml:"template"`
	Greedy      bool     `json:"greedy" yaml:"greedy"`
}

type gates struct {
	MaxDead float32 `json:"max_dead" yaml:"max_dead"`
}

// A level is written as a word.
type level int

func (l *level) UnmarshalText(text []byte) error {
	i := slices.Index([]string{"low", "high"}, string(text))
	if i < 0 {
		return fmt.Errorf("no level %q; there are low and high", text)
	}
	*l = level(i)
	return nil
}

func (s *sample) Validate() error {
	var errs []error
	if t := s.Rewrite.Temperature; t > 2 {
		errs = append(errs, fmt.Errorf("rewrite.temperature: %v is not in 0..2; the paper has 0.9", t))
	}
	if s.Rewrite.Candidates < 1 {
		errs = append(errs, errors.New("rewrite.candidates: at least 1; the paper has 8"))
	}
	var sources []error
	for i, p := range s.Inputs.Prompts {
		if p.Path == "" {
			sources = append(sources, fmt.Errorf("inputs.prompts[%d].path: name a file: %w", i, os.ErrNotExist))
		}
	}
	errs = append(errs, errors.Join(sources...))
	if s.Every < 0 {
		errs = append(errs, errors.New("every: below zero"))
	}
	return errors.Join(errs...)
}

// load does what the command line does with a recipe.
func load(name string, text []byte, bases map[string][]byte, set []string) (*recipe.Document, *sample, error) {
	d, err := recipe.Parse(name, text)
	if err != nil {
		return nil, nil, err
	}
	if err := d.Extend(bases, ""); err != nil {
		return nil, nil, err
	}
	if err := d.Set(set); err != nil {
		return nil, nil, err
	}
	var s sample
	if err := d.Decode(&s); err != nil {
		return nil, nil, err
	}
	return d, &s, d.Locate(s.Validate())
}

// TestRecipes runs testdata/*/*.txtar: my.yaml, the bases beside it, and set, with one assignment a
// line, give want.yaml and want.json, or the faults want.txt.
func TestRecipes(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d recipes: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files, bases := map[string][]byte{}, map[string][]byte{}
			for _, f := range archive.Files {
				files[f.Name] = f.Data
				if base, ok := strings.CutSuffix(f.Name, ".yaml"); ok && base != "my" && base != "want" {
					bases[base] = f.Data
				}
			}
			var set []string
			if text := strings.TrimSuffix(string(files["set"]), "\n"); text != "" {
				set = strings.Split(text, "\n")
			}
			got := map[string]string{}
			d, s, err := load("my.yaml", files["my.yaml"], bases, set)
			if err != nil {
				got["want.txt"] = err.Error() + "\n"
			} else {
				got["want.yaml"], got["want.json"] = string(d.Bytes()), string(recipe.Canonical(s))+"\n"
			}
			bad := strings.Contains(file, "bad")
			if bad != (err != nil) {
				t.Errorf("fault: %v", err)
			}
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want.") })
				for _, name := range []string{"want.txt", "want.yaml", "want.json"} {
					if text, ok := got[name]; ok {
						archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(text)})
					}
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, name := range []string{"want.txt", "want.yaml", "want.json"} {
				if diff := cmp.Diff(string(files[name]), got[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// TestParseRefuses has the texts that a file for people cannot show.
func TestParseRefuses(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%[1]d [%s]\n", i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "f:1:1: the recipe is empty; promptmill recipe show prints a complete one"},
		{"only comments", "# nothing\n", "f:1:1: the recipe is empty; promptmill recipe show prints a complete one"},
		{"not UTF-8", "a: 1\nb: \xff\n", "f:2:4: byte 0xff is not UTF-8; save the file as UTF-8"},
		{"UTF-16", "\xff\xfea\x00", "f:1:1: byte 0xff is not UTF-8; save the file as UTF-8"},
		{"control", "a: \x07\n", "f:1:4: control character U+0007; delete it, or write it in double quotes as an escape"},
		{"tab", "a:\n\tb: 1\n", "f:2:1: a tab indents this line; YAML takes spaces only"},
		{"too long", strings.Repeat("# filler\n", 1<<17), "f:1:1: 1179648 bytes are too many for a recipe, at most 1048576; keep data in files that it names"},
		{"too many tokens", strings.Repeat("- x\n", 30_000), "f:1:1: this is too much for a recipe; keep data in files that it names"},
		{"brackets", "a: " + strings.Repeat("[", 1000), "f:1:36: more than 32 levels deep; nothing in a recipe is"},
		{"dashes", "a:\n " + strings.Repeat("- ", 100) + "x", "f:2:64: more than 32 levels deep; nothing in a recipe is"},
		{"bomb", bomb.String(), "f:4:45: more than 10000 values, aliases counted each time; keep data in files that the recipe names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, err := recipe.Parse("f", []byte(c.text))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestLineEndingsAndByteOrderMark(t *testing.T) {
	d, err := recipe.Parse("f", []byte("\ufeffseed: 1 # one\r\nrewrite:\r\n  candidates: 8\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	if err := d.Decode(&s); err != nil || s.Seed != 1 || s.Rewrite.Candidates != 8 {
		t.Errorf("%+v, %v", s, err)
	}
	if got, want := string(d.Bytes()), "seed: 1 # one\nrewrite:\n  candidates: 8\n"; got != want {
		t.Errorf("got %q", got)
	}
}

// TestDecodeKeeps: fields without a key keep what they had; an empty value clears what can be nil.
func TestDecodeKeeps(t *testing.T) {
	s := sample{Seed: 7, Gates: &gates{MaxDead: .5}, Rewrite: rewrite{Candidates: 8, Stop: []string{"x"}}, Labels: map[string]string{"a": "b"}}
	d, err := recipe.Parse("f", []byte("rewrite:\n  stop: []\nlabels: {c: d}\ngates:\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	want := sample{Seed: 7, Rewrite: rewrite{Candidates: 8}, Labels: map[string]string{"c": "d"}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDecodePanicsOnTypes(t *testing.T) {
	for name, into := range map[string]any{
		"not a pointer": sample{},
		"no tag":        &struct{ Seed int }{},
		"no such kind": &struct {
			Seed chan int `yaml:"seed"`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			d, err := recipe.Parse("f", []byte("seed: 1\n"))
			if err != nil {
				t.Fatal(err)
			}
			_ = d.Decode(into)
		})
	}
}

func TestLocateKeepsErrors(t *testing.T) {
	d, err := recipe.Parse("f", []byte("seed: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Locate(nil); err != nil {
		t.Errorf("nil becomes %v", err)
	}
	err = d.Locate(errors.Join(fmt.Errorf("seed: %w", os.ErrPermission), errors.New("no path here")))
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v is no longer a permission error", err)
	}
	if got, want := err.Error(), "f: no path here\nf:1:7: seed: permission denied"; got != want {
		t.Errorf("got %q", got)
	}
	if err := d.Locate(fmt.Errorf("seed: both %w and %w", os.ErrExist, os.ErrClosed)); err.Error() != "f:1:7: seed: both file already exists and file already closed" {
		t.Errorf("got %q", err)
	}
}

func TestCanonical(t *testing.T) {
	one, two := struct {
		B string         `json:"b"`
		A map[string]int `json:"a"`
	}{"<é>", map[string]int{"y": 1, "x": 2}}, struct {
		A map[string]int `json:"a"`
		B string         `json:"b"`
	}{map[string]int{"x": 2, "y": 1}, "<é>"}
	const want = `{"a":{"x":2,"y":1},"b":"<é>"}`
	if got := string(recipe.Canonical(one)); got != want {
		t.Errorf("got %s", got)
	}
	if got := string(recipe.Canonical(two)); got != want {
		t.Errorf("got %s", got)
	}
}
