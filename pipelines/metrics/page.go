package metrics

import (
	_ "embed"
	"html/template"
	"io"
	"maps"
	"slices"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"interval": Interval.Level,
	"gain":     Interval.Signed,
}).Parse(pageText))

// A Page is what WritePage shows.
type Page struct {
	Title string
	// Facts are lines of name and value above the table.
	Facts  [][2]string
	Stages []Stage
	// Steps are rows of a second table, under StepHead.
	StepHead []string
	Steps    [][]string
}

// Measures are the names of the scores of any stage, sorted.
func (p Page) Measures() []string {
	names := map[string]bool{}
	for _, s := range p.Stages {
		for name := range s.Scores {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Judged says that a stage has figures as a judge.
func (p Page) Judged() bool {
	return slices.ContainsFunc(p.Stages, func(s Stage) bool { return s.Trust != nil })
}

// WritePage writes a plain HTML page that needs no other file.
func WritePage(w io.Writer, p Page) error { return pageTemplate.Execute(w, p) }
