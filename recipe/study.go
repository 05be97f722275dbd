package recipe

import (
	"embed"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/transforms/settings"
)

//go:embed studies/*.yaml
var studies embed.FS

// Studies are the names of the embedded studies: settings chooses and tests the settings of the loop on the tiny models
// (docs/study), the others are the paper's ablations: reward (Table 3, below), aspects (Table 3, above),
// candidates (Table 9) and judging (samples, margin, temperature).
func Studies() []string { return []string{"settings", "reward", "aspects", "candidates", "judging"} }

// A Study is loops to compare: variants of one recipe, each with several seeds.
type Study struct {
	// Name is that of its folder, About says for people what it is to find out.
	Name  string `json:"name" yaml:"name"`
	About string `json:"about" yaml:"about"`
	// Recipe is the name or file of the recipe of all loops, Set are assignments for all of them.
	Recipe string   `json:"recipe" yaml:"recipe"`
	Set    []string `json:"set" yaml:"set"`
	// Seeds are the loops' seeds. What is measured does not depend on them: MetricsSeed is that of the measurements.
	Seeds       []int64 `json:"seeds" yaml:"seeds"`
	MetricsSeed int64   `json:"metrics_seed" yaml:"metrics_seed"`
	// Measure is the score to compare by, Resamples the number of bootstrap samples.
	Measure   string `json:"measure" yaml:"measure"`
	Resamples int    `json:"resamples" yaml:"resamples"`
	// Choose measures all variants on the validation half of the held-out prompts, chooses the one whose last policy
	// scores best there, and measures that one and the first variant, and no other, on the test half. Without it all
	// variants are measured on the test half and none is chosen.
	Choose bool `json:"choose" yaml:"choose"`
	// Variants are compared with the first one.
	Variants []Variant `json:"variants" yaml:"variants"`
}

// A Variant is one setting of the recipe.
type Variant struct {
	// Name is a word, About says what is different.
	Name  string `json:"name" yaml:"name"`
	About string `json:"about" yaml:"about"`
	// Set are assignments over the study's.
	Set []string `json:"set" yaml:"set"`
}

var studyName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,30}$`)

// LoadStudy reads a study, an embedded one by its name or a file. An error names every fault with its file and line.
func LoadStudy(nameOrFile string) (*Study, error) {
	file := nameOrFile
	var text []byte
	var err error
	if slices.Contains(Studies(), nameOrFile) {
		file = nameOrFile + ".yaml"
		text, err = studies.ReadFile(path.Join("studies", file))
	} else if text, err = os.ReadFile(nameOrFile); err != nil {
		err = fmt.Errorf("study: %w; name a file or one of the embedded studies, %s", err, strings.Join(Studies(), ", "))
	}
	if err != nil {
		return nil, err
	}
	doc, err := Parse(file, text)
	if err != nil {
		return nil, err
	}
	s := &Study{Recipe: "demo", MetricsSeed: 1, Resamples: 2000}
	if err := doc.Decode(s); err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, doc.Locate(err)
	}
	return s, nil
}

// Validate joins all faults, each beginning with the path of its key. What variants set is checked with the recipe.
func (s *Study) Validate() error {
	faults := settings.Of("")
	faults.Check(studyName.MatchString(s.Name), "name: %q is not a word of letters, digits, _ and - that begins with a letter", s.Name)
	faults.Check(s.Recipe != "", "recipe: empty; name the recipe that variants are of")
	faults.Check(s.Measure != "", "measure: empty; name one of metrics.scorers")
	faults.Check(s.Resamples >= 100, "resamples: %d is below 100; 2000 do for two digits", s.Resamples)
	faults.Check(s.MetricsSeed != 0, "metrics_seed: 0 would be each loop's own seed; give another one")
	faults.Check(len(s.Seeds) > 0, "seeds: none; three tell more than one")
	for i, seed := range s.Seeds {
		faults.Check(!slices.Contains(s.Seeds[:i], seed), "seeds[%d]: %d stands there twice", i, seed)
	}
	faults.Check(len(s.Variants) > 0, "variants: none; the first is what others are compared with")
	for i, v := range s.Variants {
		at := fmt.Sprintf("variants[%d].name", i)
		faults.Check(studyName.MatchString(v.Name), "%s: %q is not a word of letters, digits, _ and - that begins with a letter", at, v.Name)
		faults.Check(!slices.ContainsFunc(s.Variants[:i], func(o Variant) bool { return o.Name == v.Name }), "%s: %q stands there twice", at, v.Name)
	}
	return faults.Err()
}

// Assignments are what makes of the study's recipe that of a variant's loop with a seed, measured on a part of the
// held-out prompts.
func (s *Study) Assignments(v Variant, seed int64, part string) []string {
	return slices.Concat(s.Set, v.Set, []string{
		fmt.Sprintf("selfreward.name=%s-%s-%d-%s", s.Name, v.Name, seed, part), fmt.Sprintf("seed=%d", seed),
		"metrics.part=" + part, fmt.Sprintf("metrics.seed=%d", s.MetricsSeed),
	})
}
