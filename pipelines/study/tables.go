package study

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/recipe"
)

// A Table is for people.
type Table struct {
	Title string
	// Note stands above the table.
	Note string
	Head []string
	Rows [][]string
}

// how says what the intervals are.
const how = "Means with 95% bootstrap intervals. Over several seeds, seeds and prompts are both resampled; gains and differences are " +
	"taken prompt by prompt and seed by seed on the same prompts and picture seeds. Beam is decoding without chance."

// Tables are those of a result: the variants, and for each part the systems over all seeds and each seed alone.
func (r Result) Tables(s *recipe.Study) []Table {
	variants := Table{Title: "Variants", Head: []string{"variant", "what is different", "assignments"}}
	for _, v := range s.Variants {
		variants.Rows = append(variants.Rows, []string{v.Name, v.About, strings.Join(v.Set, " ")})
	}
	out := []Table{variants}
	for _, p := range r.Parts {
		what := fmt.Sprintf("%d held-out prompts of the %s half", p.Prompts, p.Part)
		note := how
		if r.Chosen != "" && p.Part == prompts.Validation {
			note += fmt.Sprintf(" Best on this half, by its last policy, and so chosen: %s.", r.Chosen)
		}
		if len(p.Stopped) > 0 {
			note += " Stopped: " + strings.Join(p.Stopped, "; ") + "."
		}
		out = append(out, p.over(s, "All seeds, "+what, note), p.each("Each seed, "+what))
	}
	return out
}

// over is the table of the systems over all seeds.
func (p Part) over(s *recipe.Study, title, note string) Table {
	first := s.Variants[0].Name
	t := Table{Title: title, Note: note, Head: []string{
		"variant", "stage", s.Measure, "gain over the stage before", "rose in seeds (surely)", "over " + first, "over " + p.BestTags,
		"beam", "beam gain", "words", "distinct-2",
	}}
	for _, x := range p.Systems {
		row := []string{x.Variant, x.Stage, level(&x.Score), signed(x.Gain), "", signed(x.OverFirst), signed(x.OverTags), level(x.Beam), signed(x.BeamGain), "", ""}
		if len(x.Seeds) > 0 {
			row[4] = fmt.Sprintf("%d of %d (%d)", x.Rose, len(x.Seeds), x.Surely)
			row[9], row[10] = fmt.Sprintf("%.1f", x.Words), fmt.Sprintf("%.3f", x.Distinct2)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// each is the table of the stages of each loop.
func (p Part) each(title string) Table {
	t := Table{Title: title, Head: []string{
		"variant", "seed", "stage", "score", "gain over the stage before", "distinct-2", "judge agrees with the facts", "judge of judgments", "notes",
	}}
	for _, x := range p.Systems {
		for _, s := range x.Seeds {
			t.Rows = append(t.Rows, []string{
				x.Variant, fmt.Sprint(s.Seed), x.Stage, level(&s.Score), signed(s.Gain), fmt.Sprintf("%.3f", s.Stage.Distinct2),
				s.Stage.JudgeText(), s.Stage.JudgmentText(), strings.Join(s.Notes, "; "),
			})
		}
	}
	slices.SortStableFunc(t.Rows, func(a, b []string) int { return bySeed(p, a, b) })
	return t
}

// bySeed puts the stages of one loop together, variants in their order.
func bySeed(p Part, a, b []string) int {
	if a[0] != b[0] {
		at := func(variant string) int {
			return slices.IndexFunc(p.Systems, func(s System) bool { return s.Variant == variant })
		}
		return at(a[0]) - at(b[0])
	}
	return cmp.Or(len(a[1])-len(b[1]), strings.Compare(a[1], b[1]))
}

func level(i *metrics.Interval) string {
	if i == nil {
		return ""
	}
	return i.Level()
}

func signed(i *metrics.Interval) string {
	if i == nil {
		return ""
	}
	return i.Signed()
}

// WriteMarkdown writes the tables as sections of a page.
func WriteMarkdown(w io.Writer, tables []Table) error {
	var b strings.Builder
	line := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + strings.NewReplacer("|", `\|`, "\n", " ").Replace(c) + " ")
		}
		b.WriteString("|\n")
	}
	for _, t := range tables {
		fmt.Fprintf(&b, "## %s\n\n", t.Title)
		if t.Note != "" {
			fmt.Fprintf(&b, "%s\n\n", t.Note)
		}
		line(t.Head)
		line(slices.Repeat([]string{"---"}, len(t.Head)))
		for _, r := range t.Rows {
			line(r)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, strings.TrimSuffix(b.String(), "\n"))
	return err
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// WritePage writes the tables as an HTML page that needs no other file.
func WritePage(w io.Writer, r Result, tables []Table) error {
	return pageTemplate.Execute(w, struct {
		Result
		Tables []Table
	}{r, tables})
}
