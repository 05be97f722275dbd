package template_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/template"
)

var tasks = []string{template.Rewrite, template.Aesthetic, template.Pick, template.Alignment}

// A change of wording needs a new version, and with it a new line in testdata/digests.txt.
func TestWordingHasVersion(t *testing.T) {
	want, err := os.ReadFile("testdata/digests.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"paper", "tiny"} {
		set, err := template.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			tmpl, ok := set.Task(task)
			if !ok {
				t.Fatalf("no template for %s", task)
			}
			if err := tmpl.Validate("templates."+task, task); err != nil {
				t.Error(err)
			}
			sum := sha256.Sum256([]byte(tmpl.System + "\x00" + tmpl.User))
			line := tmpl.ID + " " + hex.EncodeToString(sum[:])
			if !strings.Contains(string(want), line+"\n") {
				t.Errorf("the wording of %s changed without a new version: raise it, then add the line\n%s", tmpl.ID, line)
			}
		}
	}
}

func TestPaperSet(t *testing.T) {
	set := template.Paper()
	for _, task := range tasks {
		tmpl, _ := set.Task(task)
		if err := tmpl.Validate("templates."+task, task); err != nil {
			t.Error(err)
		}
		messages := tmpl.Messages("a cat of {prompt}")
		user := messages[len(messages)-1].Content
		last := user[strings.LastIndexByte(user, '\n')+1:]
		switch task {
		case template.Rewrite:
			if last != "Prompt: a cat of {prompt}" {
				t.Errorf("rewrite ends with %q", last)
			}
		case template.Aesthetic:
			if strings.Contains(user, "a cat") {
				t.Error("the aesthetic template shows the text")
			}
		default:
			if !strings.Contains(user, "\nText: a cat of {prompt}\n") {
				t.Errorf("%s has no line with the text", task)
			}
		}
		if task == template.Rewrite {
			continue
		}
		for score := range 6 {
			if n := strings.Count(user, fmt.Sprintf("(Score: %d)", score)); n != 1 {
				t.Errorf("%s explains score %d %d times", task, score, n)
			}
		}
	}
	if _, ok := set.Task("sharpness"); ok {
		t.Error("there is a template for a task that nobody has")
	}
	if _, err := template.Open("peper"); err == nil || !strings.Contains(err.Error(), "there are paper, tiny") {
		t.Errorf("Open of an unknown set: %v", err)
	}
}

func TestReplace(t *testing.T) {
	paper := template.Paper()
	got, err := paper.Replace(template.Rewrite, "house", []byte("You are terse.\r\n---\r\nImprove: {prompt}\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []schemas.Message{{Role: "system", Content: "You are terse."}, {Role: "user", Content: "Improve: a cat"}}
	if d := cmp.Diff(want, got.Rewrite.Messages("a cat")); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(got.Rewrite.ID, "house/rewrite/") || len(got.Rewrite.ID) != len("house/rewrite/")+16 {
		t.Errorf("id %q carries no digest", got.Rewrite.ID)
	}
	other, err := paper.Replace(template.Rewrite, "house", []byte("Improve: {prompt}"))
	if err != nil {
		t.Fatal(err)
	}
	if other.Rewrite.ID == got.Rewrite.ID {
		t.Error("two wordings share an id")
	}
	if d := cmp.Diff(template.Paper(), paper); d != "" {
		t.Errorf("Replace changed its receiver: %s", d)
	}
	got.Rewrite = paper.Rewrite
	if d := cmp.Diff(paper, got); d != "" {
		t.Errorf("Replace touched other tasks: %s", d)
	}
	for _, bad := range []struct{ task, text, fault string }{
		{template.Rewrite, "improve it", "template mine.user: lacks {prompt}"},
		{template.Aesthetic, "how nice is {prompt}?", "template mine.user: has {prompt}"},
		{template.Pick, " \n", "template mine.user: empty"},
		{"sharpness", "{prompt}", "no task \"sharpness\""},
	} {
		same, err := paper.Replace(bad.task, "mine", []byte(bad.text))
		if err == nil || !strings.Contains(err.Error(), bad.fault) {
			t.Errorf("%s %q: error %v, want %q", bad.task, bad.text, err, bad.fault)
		}
		if d := cmp.Diff(paper, same); d != "" {
			t.Errorf("%s: a refused file changed the set: %s", bad.task, d)
		}
	}
}

func ExampleSet_Replace() {
	set, err := template.Paper().Replace(template.Rewrite, "mine", []byte("Describe a picture of: {prompt}"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(set.Rewrite.Messages("a cat")[0].Content)
	fmt.Println(set.Pick.ID)
	// Output:
	// Describe a picture of: a cat
	// paper/pick/1
}
