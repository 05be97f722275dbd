package source

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/transforms/settings"
)

// Formats of an input. Any but parquet may be compressed with gzip (name ends in .gz).
const (
	// Auto goes by the ending of the file's name, and for .json by its first character.
	Auto  = "auto"
	JSONL = "jsonl"
	// JSON is one array of objects.
	JSON = "json"
	// CSV is RFC 4180 with a header; quoted fields may hold line breaks.
	CSV = "csv"
	// TSV is text with tabs and a header, where a quote is a character like any other (IANA
	// text/tab-separated-values).
	TSV     = "tsv"
	Parquet = "parquet"
	// Text has one prompt a line.
	Text = "text"
	// BeautifulPrompt is that data set's files: like auto, with raw_prompt, prompt and pick_score as columns.
	BeautifulPrompt = "beautifulprompt"
	// DiffusionDB is metadata.parquet of that data set: prompt, image_name as id, prompt_nsfw.
	DiffusionDB = "diffusiondb"
)

var formats = []string{Auto, JSONL, JSON, CSV, TSV, Parquet, Text, BeautifulPrompt, DiffusionDB}

// Values of Limits.Language.
const (
	AnyLanguage = "any"
	// Latin asks that at least 90% of the letters are of the Latin script.
	Latin = "latin"
	// English asks that at least 97% of the letters are plain a to z, so that a name with an accent
	// passes. It is a rule about script: it does not tell English from Dutch.
	English = "english"
)

// Config says what to read and what to leave out. The zero value of each limit and filter is off.
type Config struct {
	Inputs []Input `json:"inputs" yaml:"inputs"`
	Limits Limits  `json:"limits" yaml:"limits"`
	// Seed decides which rows filter.thin_fraction leaves out.
	Seed int64 `json:"seed" yaml:"-"`
}

// An Input is a file, a directory or a glob of one format.
type Input struct {
	// Name goes into the rows' source column and into dead letters.
	Name string `json:"name" yaml:"name"`
	// Path names a local file, a glob, or a directory. Of a directory the files directly in it count
	// whose ending is known and whose name does not begin with '.' or '_'. "builtin:prompts/NAME" is a file
	// that comes with promptmill.
	Path   string `json:"path" yaml:"path"`
	Format string `json:"format,omitempty" yaml:"format,omitempty"`
	// Columns maps roles to columns: prompt and id for prompts, raw, rewritten and id for pairs, and
	// prompt_nsfw and pick_score where a filter needs them. A role that is left out has the format's
	// column or its own name. Only id may be missing from the data, unless it is named here.
	Columns map[string]string `json:"columns,omitempty" yaml:"columns,omitempty"`
	// MaxRows reads the first so many records only, files in name order. Such an input is read by one
	// worker from its start.
	MaxRows int64  `json:"max_rows,omitempty" yaml:"max_rows,omitempty"`
	Filter  Filter `json:"filter,omitzero" yaml:"filter,omitempty"`
}

// Filter leaves rows out by what the data set says about them.
type Filter struct {
	// MaxPromptNSFW is the highest prompt_nsfw to keep (DiffusionDB: 0 to 1; 2 means blurred). Prompts only.
	MaxPromptNSFW float64 `json:"max_prompt_nsfw,omitempty" yaml:"max_prompt_nsfw,omitempty"`
	// MinPickScore is the lowest pick_score to keep (BeautifulPrompt's authors: 18.5). Pairs only.
	MinPickScore float64 `json:"min_pick_score,omitempty" yaml:"min_pick_score,omitempty"`
	// MinTokens is the shortest rewriting to keep (BeautifulPrompt's authors: 25), ThinFraction the share
	// to leave out, by hash, of those under ThinBelowTokens (0.3 under 35). A token here is a word or a
	// punctuation mark: the authors count with their model's tokenizer, which finds a few more. MaxTokens, counted alike, is
	// the longest to keep, for policies of a small context window. Pairs only.
	MinTokens       int     `json:"min_tokens,omitempty" yaml:"min_tokens,omitempty"`
	MaxTokens       int     `json:"max_tokens,omitempty" yaml:"max_tokens,omitempty"`
	ThinBelowTokens int     `json:"thin_below_tokens,omitempty" yaml:"thin_below_tokens,omitempty"`
	ThinFraction    float64 `json:"thin_fraction,omitempty" yaml:"thin_fraction,omitempty"`
}

// Limits say which prompts are of use, after folding of white space. For pairs they hold for the raw prompt.
type Limits struct {
	// MinChars and MaxChars count characters (code points), MaxWords runs of non-space.
	MinChars int `json:"min_chars,omitempty" yaml:"min_chars,omitempty"`
	MaxChars int `json:"max_chars,omitempty" yaml:"max_chars,omitempty"`
	MaxWords int `json:"max_words,omitempty" yaml:"max_words,omitempty"`
	// Language is any, latin or english.
	Language string `json:"language,omitempty" yaml:"language,omitempty"`
	// MaxLineBytes bounds one record, and so memory; a longer one is a dead letter. Default 1 MiB.
	MaxLineBytes int `json:"max_line_bytes,omitempty" yaml:"max_line_bytes,omitempty"`
}

func (l Limits) maxLineBytes() int {
	if l.MaxLineBytes == 0 {
		return 1 << 20
	}
	return l.MaxLineBytes
}

// A shape is what rows are read as.
type shape int

const (
	promptRows shape = iota
	pairRows
)

// A role is what a column is for.
type role int

const (
	textRole role = iota
	rewrittenRole
	idRole
	scoreRole
	roles
)

// roleNames are the keys of Input.Columns.
var roleNames = [...][roles]string{
	promptRows: {"prompt", "", "id", "prompt_nsfw"},
	pairRows:   {"raw", "rewritten", "id", "pick_score"},
}

var presets = map[string][2][roles]string{
	BeautifulPrompt: {
		promptRows: {"raw_prompt", "", "id", "prompt_nsfw"},
		pairRows:   {"raw_prompt", "prompt", "id", "pick_score"},
	},
	DiffusionDB: {
		promptRows: {"prompt", "", "image_name", "prompt_nsfw"},
		pairRows:   roleNames[pairRows],
	},
}

// columns are the names to look for, by role. An empty name is not looked for.
type columns struct {
	names [roles]string
	// optional says that the id may be missing.
	optional bool
}

func (in Input) columns(sh shape) columns {
	c := columns{names: roleNames[sh], optional: in.Columns["id"] == ""}
	if p, ok := presets[in.Format]; ok {
		c.names = p[sh]
	}
	for r, key := range roleNames[sh] {
		if name := in.Columns[key]; key != "" && name != "" {
			c.names[r] = name
		}
	}
	if sh == promptRows && in.Filter.MaxPromptNSFW == 0 || sh == pairRows && in.Filter.MinPickScore == 0 {
		c.names[scoreRole] = ""
	}
	return c
}

// required says whether a record without the column of r is unusable.
func (c columns) required(r role) bool {
	return c.names[r] != "" && (r != idRole || !c.optional)
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// Validate joins all that is wrong with c.
func (c Config) Validate() error {
	faults := settings.Of("source")
	faults.Check(len(c.Inputs) > 0, "inputs: there is none: name at least one file, directory or glob")
	seen := map[string]bool{}
	for i, in := range c.Inputs {
		input := settings.Of(fmt.Sprintf("source.inputs[%d]", i))
		input.Check(nameForm.MatchString(in.Name), "name: %q is not a name: use letters, digits, '_', '-' and '.'", in.Name)
		input.Check(!seen[in.Name], "name: %q is there twice: give each input its own", in.Name)
		seen[in.Name] = true
		input.Check(in.Path != "", "path: there is none: name a file, a directory or a glob")
		input.CheckErr("path", checkLocal(in.Path))
		input.Check(in.Format == "" || slices.Contains(formats, in.Format), "format: %q is not one of %s", in.Format, strings.Join(formats, ", "))
		for _, key := range slices.Sorted(maps.Keys(in.Columns)) {
			role := key != "" && (slices.Contains(roleNames[promptRows][:], key) || slices.Contains(roleNames[pairRows][:], key))
			input.Check(role, "columns.%s: there is no such role: use prompt, raw, rewritten, id, prompt_nsfw or pick_score", key)
		}
		input.Check(in.MaxRows >= 0, "max_rows: %d is negative: leave it out to read all", in.MaxRows)
		f := in.Filter
		input.Check(f.ThinFraction >= 0 && f.ThinFraction <= 1, "filter.thin_fraction: %g is not in 0..1", f.ThinFraction)
		input.Check((f.ThinFraction > 0) == (f.ThinBelowTokens > 0), "filter.thin_below_tokens: set it together with thin_fraction, or neither")
		faults.Join(input.Err())
	}
	l := c.Limits
	for _, x := range []struct {
		name string
		n    int
	}{{"min_chars", l.MinChars}, {"max_chars", l.MaxChars}, {"max_words", l.MaxWords}, {"max_line_bytes", l.MaxLineBytes}} {
		faults.Check(x.n >= 0, "limits.%s: %d is negative: leave it out for the default", x.name, x.n)
	}
	faults.Check(l.MaxChars <= 0 || l.MinChars <= l.MaxChars, "limits.min_chars: %d is more than max_chars %d: nothing would be left", l.MinChars, l.MaxChars)
	faults.Check(slices.Contains([]string{"", AnyLanguage, Latin, English}, l.Language), "limits.language: %q is not one of any, latin, english", l.Language)
	return faults.Err()
}

// validateAs is Validate, and that no setting is for the other shape of rows only.
func (c Config) validateAs(sh shape) error {
	errs := []error{c.Validate()}
	for i, in := range c.Inputs {
		f := in.Filter
		if sh == promptRows && (f.MinPickScore != 0 || f.MinTokens != 0 || f.MaxTokens != 0 || f.ThinBelowTokens != 0) {
			errs = append(errs, fmt.Errorf("source.inputs[%d].filter: min_pick_score, min_tokens, max_tokens and thin_* are for pairs: leave them out for prompts", i))
		}
		if sh == pairRows && f.MaxPromptNSFW != 0 {
			errs = append(errs, fmt.Errorf("source.inputs[%d].filter.max_prompt_nsfw: it is for prompts: leave it out for pairs", i))
		}
		if sh == pairRows && in.Format == Text {
			errs = append(errs, fmt.Errorf("source.inputs[%d].format: text has one column and pairs need two: use jsonl, csv or parquet", i))
		}
	}
	return errors.Join(errs...)
}
