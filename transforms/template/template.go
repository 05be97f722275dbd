// Package template holds the wording of the questions that the policy and the judge are asked: named,
// versioned sets, of which "paper" and "tiny" are embedded and any can be replaced by a file.
//
// # Design
//
// A template is text with the one placeholder {prompt}, so a user can write one without learning a
// language and nothing in a prompt can be taken for an instruction of it. It travels to the workers by
// value inside a Config: a worker needs no file. Where the pictures stand among the words is fixed by
// the judge and not part of a template.
package template

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/schemas"
)

// Placeholder stands for the raw prompt in a template.
const Placeholder = "{prompt}"

// Tasks that a Set has a template for; the aspects' tasks are named as the aspects are.
const (
	Rewrite   = "rewrite"
	Aesthetic = schemas.Aesthetic
	Pick      = schemas.Pick
	Alignment = schemas.Alignment
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
func (t Template) Messages(prompt string) []schemas.Message {
	var out []schemas.Message
	if t.System != "" {
		out = append(out, schemas.Message{Role: schemas.RoleSystem, Content: t.System})
	}
	return append(out, schemas.Message{Role: schemas.RoleUser, Content: strings.ReplaceAll(t.User, Placeholder, prompt)})
}

// Validate joins the faults of t, each beginning with path, the place of t in the recipe. The
// template of the aesthetic aspect must not mention the prompt, that of any other task must.
func (t Template) Validate(path, task string) error {
	var errs []error
	if t.ID == "" {
		errs = append(errs, fmt.Errorf("%s.id: empty; an answer is logged under the template's id", path))
	}
	if strings.TrimSpace(t.User) == "" {
		errs = append(errs, fmt.Errorf("%s.user: empty; write the question", path))
	} else if has := strings.Contains(t.User, Placeholder); has != (task != Aesthetic) {
		if has {
			errs = append(errs, fmt.Errorf("%s.user: has %s, but aesthetics are judged without the text; remove it", path, Placeholder))
		} else {
			errs = append(errs, fmt.Errorf("%s.user: lacks %s; put it where the raw prompt goes", path, Placeholder))
		}
	}
	return errors.Join(errs...)
}

// A Set has a template for each task.
type Set struct {
	Name      string   `json:"name" yaml:"name"`
	Version   string   `json:"version" yaml:"version"`
	Rewrite   Template `json:"rewrite" yaml:"rewrite"`
	Aesthetic Template `json:"aesthetic" yaml:"aesthetic"`
	Pick      Template `json:"pick" yaml:"pick"`
	Alignment Template `json:"alignment" yaml:"alignment"`
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
	tasks = []string{Rewrite, Aesthetic, Pick, Alignment}

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
