// Package template holds the wording of the questions that the policy and the judge are asked: named,
// versioned sets, of which "paper" and "tiny" are embedded and any can be replaced by a file.
//
// # Design
//
// A template is text with a few placeholders ({prompt} and those of package-level constants), filled in one
// pass, so a user can write one without learning a language and nothing in a prompt or an answer can be
// taken for an instruction of it. It travels to the workers by
// value inside a Config: a worker needs no file. Where the pictures stand among the words is fixed by
// the judge and not part of a template.
package template

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/schemas"
)

// Placeholder stands for the raw prompt in a template. The others are for single kinds of task.
const (
	Placeholder = "{prompt}"
	// Better stands, in a teacher's cue, for the picture that people preferred: Image 1 or Image 2.
	Better = "{better}"
	// Question, AnswerA and AnswerB stand, where answers are judged, for what was asked about the pictures and
	// the two answers to it.
	Question = "{question}"
	AnswerA  = "{answer_a}"
	AnswerB  = "{answer_b}"
)

// Tasks that a Set has a template for; the aspects' tasks are named as the aspects are.
const (
	Rewrite   = "rewrite"
	Aesthetic = schemas.Aesthetic
	Pick      = schemas.Pick
	Alignment = schemas.Alignment
	// Teacher and Judgment before an aspect name the teacher's cue, which follows the aspect's question, and the
	// question which of two answers about the pictures is better.
	Teacher  = "teacher_"
	Judgment = "judgment_"
)

// A Template is the wording of one question.
type Template struct {
	// ID names the wording for good: set/task/version for an embedded template, set/task/digest for
	// one from a file. Answers are logged, and judgments kept, under it.
	ID string `json:"id" yaml:"id"`
	// System is the system message; "" for none.
	System string `json:"system,omitempty" yaml:"system,omitempty"`
	// User is the user's message, with {prompt} where the raw prompt goes.
	User string `json:"user" yaml:"user"`
}

// Messages are the system message, if there is one, and the user's message about the raw prompt.
func (t Template) Messages(prompt string) []schemas.Message { return t.Fill(Placeholder, prompt) }

// Fill is Messages for any placeholders: each is followed by the text to put in its place.
func (t Template) Fill(values ...string) []schemas.Message {
	var out []schemas.Message
	if t.System != "" {
		out = append(out, schemas.Message{Role: schemas.RoleSystem, Content: t.System})
	}
	return append(out, schemas.Message{Role: schemas.RoleUser, Content: strings.NewReplacer(values...).Replace(t.User)})
}

// Validate joins the faults of t, each beginning with path, the place of t in the recipe. The
// template of the aesthetic aspect must not mention the prompt, that of any other task must; a cue must say
// what is better, and a question about answers must show both.
func (t Template) Validate(path, task string) error {
	var errs []error
	if t.ID == "" {
		errs = append(errs, fmt.Errorf("%s.id: empty; an answer is logged under the template's id", path))
	}
	if strings.TrimSpace(t.User) == "" {
		errs = append(errs, fmt.Errorf("%s.user: empty; write the question", path))
	} else if needs := placeholders(task); needs != nil {
		for _, p := range needs {
			if !strings.Contains(t.User, p) {
				errs = append(errs, fmt.Errorf("%s.user: lacks %s; put it where its text goes", path, p))
			}
		}
	} else if has := strings.Contains(t.User, Placeholder); has != (task != Aesthetic) {
		if has {
			errs = append(errs, fmt.Errorf("%s.user: has %s, but aesthetics are judged without the text; remove it", path, Placeholder))
		} else {
			errs = append(errs, fmt.Errorf("%s.user: lacks %s; put it where the raw prompt goes", path, Placeholder))
		}
	}
	return errors.Join(errs...)
}

// placeholders are those that a cue, or a question about answers, must have; nil for any other task.
func placeholders(task string) []string {
	switch {
	case strings.HasPrefix(task, Teacher):
		return []string{Better}
	case strings.HasPrefix(task, Judgment):
		return []string{AnswerA, AnswerB}
	}
	return nil
}

// A Set has a template for each task.
type Set struct {
	Name      string   `json:"name" yaml:"name"`
	Version   string   `json:"version" yaml:"version"`
	Rewrite   Template `json:"rewrite" yaml:"rewrite"`
	Aesthetic Template `json:"aesthetic" yaml:"aesthetic"`
	Pick      Template `json:"pick" yaml:"pick"`
	Alignment Template `json:"alignment" yaml:"alignment"`

	TeacherAesthetic  Template `json:"teacher_aesthetic,omitzero" yaml:"teacher_aesthetic,omitempty"`
	TeacherPick       Template `json:"teacher_pick,omitzero" yaml:"teacher_pick,omitempty"`
	TeacherAlignment  Template `json:"teacher_alignment,omitzero" yaml:"teacher_alignment,omitempty"`
	JudgmentAesthetic Template `json:"judgment_aesthetic,omitzero" yaml:"judgment_aesthetic,omitempty"`
	JudgmentPick      Template `json:"judgment_pick,omitzero" yaml:"judgment_pick,omitempty"`
	JudgmentAlignment Template `json:"judgment_alignment,omitzero" yaml:"judgment_alignment,omitempty"`
}

// task is the place of a task's template in s, nil for a task that sets do not have.
func (s *Set) task(name string) *Template {
	switch name {
	case Rewrite:
		return &s.Rewrite
	case Aesthetic:
		return &s.Aesthetic
	case Pick:
		return &s.Pick
	case Alignment:
		return &s.Alignment
	case Teacher + Aesthetic:
		return &s.TeacherAesthetic
	case Teacher + Pick:
		return &s.TeacherPick
	case Teacher + Alignment:
		return &s.TeacherAlignment
	case Judgment + Aesthetic:
		return &s.JudgmentAesthetic
	case Judgment + Pick:
		return &s.JudgmentPick
	case Judgment + Alignment:
		return &s.JudgmentAlignment
	}
	return nil
}

// Task returns the template of a task, and whether there is such a task.
func (s Set) Task(name string) (Template, bool) {
	t := s.task(name)
	if t == nil {
		return Template{}, false
	}
	return *t, true
}

// AboutAnswers asks how good two answers to s's own question about a prompt's pictures are, on one of the aspects;
// id names the wording. It is empty if s has no such question.
func (s Set) AboutAnswers(aspect, prompt, a, b string) (messages []schemas.Message, id string) {
	asked, _ := s.Task(aspect)
	t, ok := s.Task(Judgment + aspect)
	if !ok {
		return nil, ""
	}
	about := asked.Messages(prompt)
	return t.Fill(Placeholder, prompt, Question, about[len(about)-1].Content, AnswerA, a, AnswerB, b), t.ID
}

// Replace returns s with the template of one task read from data, the content of a file that the user
// knows as name. A line of three dashes separates a system message from the user's message after it.
func (s Set) Replace(task, name string, data []byte) (Set, error) {
	place := s.task(task)
	if place == nil {
		return s, fmt.Errorf("template %s: no task %q; there are %s", name, task, strings.Join(tasks, ", "))
	}
	t := parse(data)
	sum := sha256.Sum256(data)
	t.ID = name + "/" + task + "/" + hex.EncodeToString(sum[:8])
	if err := t.Validate("template "+name, task); err != nil {
		return s, err
	}
	*place = t
	return s, nil
}

// parse splits a template's file; line ends and white space around the parts do not matter.
func parse(data []byte) Template {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	system, user, ok := strings.Cut(text, "\n---\n")
	if !ok {
		system, user = "", text
	}
	return Template{System: strings.TrimSpace(system), User: strings.TrimSpace(user)}
}

var (
	tasks = []string{
		Rewrite, Aesthetic, Pick, Alignment, Teacher + Aesthetic, Teacher + Pick, Teacher + Alignment,
		Judgment + Aesthetic, Judgment + Pick, Judgment + Alignment,
	}

	//go:embed paper tiny
	files embed.FS

	// versions are raised with any change of wording: answers to the old words must not be taken for
	// answers to the new ones.
	versions = map[string]string{"paper": "1", "tiny": "1"}
)

// Open returns an embedded set: "paper" asks what the paper's Appendix E asks, in this project's words; "tiny" names
// the task and nothing else, as the embedded models were trained.
func Open(name string) (Set, error) {
	version, ok := versions[name]
	if !ok {
		return Set{}, fmt.Errorf("no template set %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(versions)), ", "))
	}
	s := Set{Name: name, Version: version}
	for _, task := range tasks {
		data, err := files.ReadFile(name + "/" + task + ".txt")
		if placeholders(task) != nil && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Set{}, fmt.Errorf("template set %s: %w", name, err)
		}
		t := parse(data)
		t.ID = name + "/" + task + "/" + version
		*s.task(task) = t
	}
	return s, nil
}

// Paper is the embedded set "paper".
func Paper() Set {
	s, err := Open("paper")
	if err != nil {
		panic(err) // the files are part of the binary
	}
	return s
}

// Said is what a policy said when a text about a prompt was made: what stands behind both, if its rewritings continue the
// prompt, and else all of it.
func Said(continues, prompt, text string) string {
	if continues == "" {
		return text
	}
	return strings.TrimPrefix(text, prompt+continues)
}
