package template_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/template"
)

// What the teacher is asked has versions as well.
func TestTeacherWordingHasVersion(t *testing.T) {
	want, err := os.ReadFile("testdata/digests.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []struct {
		name  string
		kinds []string
	}{{"paper", []string{template.Teacher, template.Judgment}}, {"tiny", []string{template.Teacher, template.Judgment}}} {
		s, err := template.Open(set.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range set.kinds {
			for _, aspect := range []string{template.Aesthetic, template.Pick, template.Alignment} {
				tmpl, _ := s.Task(kind + aspect)
				if err := tmpl.Validate("templates."+kind+aspect, kind+aspect); err != nil {
					t.Error(err)
				}
				sum := sha256.Sum256([]byte(tmpl.System + "\x00" + tmpl.User))
				if line := tmpl.ID + " " + hex.EncodeToString(sum[:]); !strings.Contains(string(want), line+"\n") {
					t.Errorf("the wording of %s changed without a new version: raise it, then add the line\n%s", tmpl.ID, line)
				}
			}
		}
	}
}

// Nothing in what is filled in can be taken for a placeholder.
func TestFillOnce(t *testing.T) {
	tmpl := template.Template{System: "be fair", User: "{prompt} {question} A={answer_a} B={answer_b}"}
	got := tmpl.Fill(template.Placeholder, "{answer_a}", template.Question, "{prompt}?", template.AnswerA, "{answer_b}", template.AnswerB, "b")
	want := []schemas.Message{{Role: "system", Content: "be fair"}, {Role: "user", Content: "{answer_a} {prompt}? A={answer_b} B=b"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTeacherTemplateFaults(t *testing.T) {
	for task, want := range map[string]string{
		template.Teacher + template.Pick:       "x.user: lacks {better}; put it where its text goes",
		template.Judgment + template.Pick:      "x.user: lacks {answer_b}; put it where its text goes",
		template.Judgment + template.Alignment: "x.user: lacks {answer_b}; put it where its text goes",
	} {
		err := template.Template{ID: "i", User: "{prompt} {question} {answer_a}"}.Validate("x", task)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", task, err)
		}
	}
}
