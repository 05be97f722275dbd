package facts

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/settings"
)

// The columns of a table of scores: keys of TableConfig.Columns.
const (
	ImageColumn  = "image"
	ScoreColumn  = "score"
	PromptColumn = "prompt"
)

// TableConfig says which pairs of a table of pictures and scores to take.
type TableConfig struct {
	// Path is a CSV or TSV file with a header, JSON Lines or Parquet; which, its ending tells.
	Input `yaml:",inline"`
	Pairs `yaml:",inline"`
	// Columns maps image, score and prompt to the table's names for them; a role that is left out has its
	// own name. A table without prompts makes pairs of any two pictures, else both are of one prompt.
	Columns map[string]string `json:"columns" yaml:"columns"`
	// Aspect is what the scores are about: aesthetic, or pick, which wants prompts.
	Aspect string `json:"aspect" yaml:"aspect"`
}

// DefaultTable takes aesthetic scores at least 1 apart. Path, Images, Store and Seed are left to the caller.
func DefaultTable() TableConfig {
	return TableConfig{Input: Input{Name: "table"}, Pairs: Pairs{MinGap: 1}, Aspect: schemas.Aesthetic}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c TableConfig) Validate() error {
	faults := settings.Of("facts.table")
	c.Input.check(faults)
	c.Pairs.check(faults)
	faults.Check(c.Path == "" || slices.Contains([]string{".csv", ".tsv", ".jsonl", ".parquet"}, filepath.Ext(c.Path)),
		"path: %q does not end in .csv, .tsv, .jsonl or .parquet: name it for its format", c.Path)
	for _, role := range slices.Sorted(maps.Keys(c.Columns)) {
		faults.Check(slices.Contains([]string{ImageColumn, ScoreColumn, PromptColumn}, role), "columns.%s: there is no such role: use image, score or prompt", role)
	}
	faults.Check(c.Aspect == schemas.Aesthetic || c.Aspect == schemas.Pick, "aspect: %q is not aesthetic or pick", c.Aspect)
	return faults.Err()
}

// Table reads any table of pictures with a score each and forms pairs. It returns a
// PCollection<schemas.Fact> of the configured aspect, in no order; a PCollection<schemas.Rejected>; and the
// PCollection<schemas.Count> of both stages. It panics if cfg is not valid.
func Table(s beam.Scope, cfg TableConfig) (facts, rejected, counts beam.PCollection) {
	s = s.Scope("facts.Table")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return scored(s, "table", cfg)
}

func (c TableConfig) column(role string) string {
	if name := c.Columns[role]; name != "" {
		return name
	}
	return role
}

// A cells is what a row has in the three columns.
type cells struct {
	image, score, prompt string
	// noPrompts says that the table has no column of prompts.
	noPrompts bool
}

// picture makes a picture of a row.
func (c cells) picture(cfg TableConfig) (picture, death) {
	score, err := strconv.ParseFloat(strings.TrimSpace(c.score), 64)
	if err != nil || math.IsNaN(score) || math.IsInf(score, 0) {
		return picture{}, dead(BadScore, "score %.40q", c.score)
	}
	if c.image == "" || !utf8.ValidString(c.image) {
		return picture{}, dead(NoPictureName, "image %.100q", c.image)
	}
	p := picture{id: cfg.Name + "/" + c.image, name: c.image, score: score}
	ok := true
	if !c.noPrompts {
		p.prompt, ok = promptText(c.prompt)
	} else if cfg.Aspect == schemas.Pick {
		ok = false
	}
	if !ok {
		return picture{}, dead(BadPrompt, "prompt %.100q", c.prompt)
	}
	return p, death{}
}

func anyTable(cfg TableConfig) table {
	return func(ctx context.Context, yield func(string, string, picture, death) error) error {
		row := func(n int64, raw string, c cells, d death) error {
			var p picture
			if d.reason == "" {
				p, d = c.picture(cfg)
			}
			return yield(rowKey(cfg, n), raw, p, d)
		}
		switch filepath.Ext(cfg.Path) {
		case ".csv":
			return csvTable(cfg, row)
		case ".tsv":
			return tsvTable(cfg, row)
		case ".jsonl":
			return jsonTable(cfg, row)
		}
		return parquetTable(ctx, cfg, row)
	}
}

// A rowFunc takes rows: number (a line, or a row of Parquet, from 1), row as it stood, cells or death.
type rowFunc func(n int64, raw string, c cells, d death) error

// A header tells where the columns are; -1 for prompts that are not there.
type header struct{ image, score, prompt, width int }

func (c TableConfig) header(names []string) (h header, err error) {
	h = header{slices.Index(names, c.column(ImageColumn)), slices.Index(names, c.column(ScoreColumn)), slices.Index(names, c.column(PromptColumn)), len(names)}
	var errs []error
	for _, col := range []struct {
		role     string
		at       int
		required bool
	}{{ImageColumn, h.image, true}, {ScoreColumn, h.score, true}, {PromptColumn, h.prompt, c.Columns[PromptColumn] != ""}} {
		if col.at < 0 && col.required {
			errs = append(errs, fmt.Errorf("no column %q: there is %.300q; set facts.table.columns.%s", c.column(col.role), names, col.role))
		}
	}
	return h, errors.Join(errs...)
}

func (h header) cells(fields []string) (c cells, d death) {
	if len(fields) != h.width {
		return c, dead(BadRow, "%d fields, the header has %d", len(fields), h.width)
	}
	c = cells{image: fields[h.image], score: fields[h.score], noPrompts: h.prompt < 0}
	if h.prompt >= 0 {
		c.prompt = fields[h.prompt]
	}
	return c, d
}

func csvTable(cfg TableConfig, yield rowFunc) error {
	file, err := os.Open(cfg.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := csv.NewReader(file)
	r.FieldsPerRecord = -1
	names, err := r.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty: a CSV file has a header")
	} else if err != nil {
		return err
	}
	names[0] = strings.TrimPrefix(names[0], "\ufeff")
	h, err := cfg.header(names)
	if err != nil {
		return err
	}
	for {
		fields, err := r.Read()
		var c cells
		var d death
		var line int
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &bad):
			d, line = dead(BadRow, "%v", err), bad.StartLine
		case err != nil:
			return err
		default:
			c, d = h.cells(fields)
			line, _ = r.FieldPos(0)
		}
		if err := yield(int64(line), strings.Join(fields, ","), c, d); err != nil {
			return err
		}
	}
}

func tsvTable(cfg TableConfig, yield rowFunc) error {
	var h *header
	err := lines(cfg.Path, func(n int64, line []byte) error {
		fields := strings.Split(string(line), "\t")
		if h == nil {
			found, err := cfg.header(fields)
			h = &found
			return err
		}
		c, d := h.cells(fields)
		return yield(n, string(line), c, d)
	})
	if err == nil && h == nil {
		return errors.New("the file is empty: a TSV file has a header")
	}
	return err
}

func jsonTable(cfg TableConfig, yield rowFunc) error {
	return lines(cfg.Path, func(n int64, line []byte) error {
		c, d := cfg.decodeJSON(line)
		return yield(n, string(line), c, d)
	})
}

// decodeJSON reads an object. A row without a prompt is one of a table without prompts only if the recipe
// names no column for them.
func (c TableConfig) decodeJSON(line []byte) (cells, death) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil || object == nil {
		return cells{}, dead(BadRow, "not a JSON object: %v", err)
	}
	score, ok := object[c.column(ScoreColumn)]
	if !ok {
		return cells{}, dead(BadScore, "no %q", c.column(ScoreColumn))
	}
	out := cells{score: string(bytes.Trim(score, `"`))}
	if raw := object[c.column(ImageColumn)]; raw == nil || json.Unmarshal(raw, &out.image) != nil {
		return cells{}, dead(NoPictureName, "no text in %q", c.column(ImageColumn))
	}
	raw, ok := object[c.column(PromptColumn)]
	if !ok && c.Columns[PromptColumn] == "" {
		out.noPrompts = true
	} else if !ok || json.Unmarshal(raw, &out.prompt) != nil {
		return cells{}, dead(BadPrompt, "no text in %q", c.column(PromptColumn))
	}
	return out, death{}
}

func parquetTable(ctx context.Context, cfg TableConfig, yield rowFunc) (err error) {
	defer recovered(&err)
	f, file, err := openParquet(cfg.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	required, optional := []string{cfg.column(ImageColumn), cfg.column(ScoreColumn)}, []string{cfg.column(PromptColumn)}
	if cfg.Columns[PromptColumn] != "" {
		required, optional = append(required, optional...), nil
	}
	index, err := leafIndex(f, required, optional...)
	if err != nil {
		return err
	}
	n := int64(0)
	for _, g := range f.RowGroups() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := tableGroup(g, cfg, index, &n, yield); err != nil {
			return err
		}
	}
	return nil
}

func tableGroup(g parquet.RowGroup, cfg TableConfig, index map[string]int, n *int64, yield rowFunc) error {
	columns := map[string]*column{}
	for name, i := range index {
		columns[name] = openColumn(g.ColumnChunks()[i])
		defer columns[name].close()
	}
	_, prompts := index[cfg.column(PromptColumn)]
	for i := range g.NumRows() {
		*n++
		values := map[string]string{}
		for name, c := range columns {
			v, err := c.at(i)
			if err != nil {
				return fmt.Errorf("column %q, row %d: %w", name, *n, err)
			}
			if !v.IsNull() {
				values[name] = text(v)
			}
		}
		c := cells{values[cfg.column(ImageColumn)], values[cfg.column(ScoreColumn)], values[cfg.column(PromptColumn)], !prompts}
		if err := yield(*n, fmt.Sprintf("%q", values), c, death{}); err != nil {
			return err
		}
	}
	return nil
}
