package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
)

const (
	// rangeBytes is the size of a range: a 40 MB file is 20 of them, and each costs one more element.
	rangeBytes = 2 << 20
	// payloadBytes is how much of a record a dead letter keeps.
	payloadBytes = 4 << 10
)

// A task is what one restriction ranges over: a file, or all files of an input with max_rows.
type task struct {
	// Input is the index in Config.Inputs.
	Input int64
	Files []file
	// Units is where the range ends: bytes, row groups, or 1 for what cannot be split.
	Units int64
	Bytes int64
}

// tasks lists what there is to read of input i.
func (c Config) tasks(ctx context.Context, i int) ([]task, error) {
	in := c.Inputs[i]
	files, err := expand(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("source: input %s: %w", in.Name, err)
	}
	if in.MaxRows > 0 {
		return []task{{Input: int64(i), Files: files, Units: 1}}, nil
	}
	var out []task
	for _, f := range files {
		t := task{Input: int64(i), Files: []file{f}, Units: 1, Bytes: f.Bytes}
		switch {
		case f.Bytes == 0, f.Format == Parquet && f.Groups == 0:
			continue
		case f.splittable():
			t.Units = f.Bytes
		case f.Format == Parquet:
			t.Units = f.Groups
		}
		out = append(out, t)
	}
	return out, nil
}

// expandAll returns a PCollection<task>.
func expandAll(s beam.Scope, cfg Config, sh shape) beam.PCollection {
	if err := cfg.validateAs(sh); err != nil {
		panic(err)
	}
	return beam.ParDo(s, &expandFn{Config: cfg}, beam.Impulse(s))
}

type expandFn struct {
	Config Config `json:"config"`
}

func (fn *expandFn) ProcessElement(ctx context.Context, _ []byte, emit func(task)) error {
	var errs []error
	for i := range fn.Config.Inputs {
		tasks, err := fn.Config.tasks(ctx, i)
		errs = append(errs, err)
		for _, t := range tasks {
			emit(t)
		}
	}
	return errors.Join(errs...)
}

// A reader is what promptFn and pairFn share: the splittable part.
type reader struct {
	Config Config `json:"config"`

	tally ledger.Tally
}

func (fn *reader) CreateInitialRestriction(t task) offsetrange.Restriction {
	return offsetrange.Restriction{End: t.Units}
}

func (fn *reader) SplitRestriction(t task, r offsetrange.Restriction) []offsetrange.Restriction {
	switch {
	case t.Units == t.Bytes && t.Units > 1:
		return r.SizedSplits(rangeBytes)
	case t.Units > 1:
		return r.EvenSplits(min(t.Units, 1+t.Bytes/rangeBytes))
	}
	return []offsetrange.Restriction{r}
}

func (fn *reader) RestrictionSize(t task, r offsetrange.Restriction) float64 {
	return r.Size() * float64(max(t.Bytes, 1)) / float64(max(t.Units, 1))
}

func (fn *reader) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

// A tracker is the part of sdf.RTracker that reading needs.
type tracker interface {
	TryClaim(pos any) bool
	GetRestriction() any
}

// unsplit is a tracker for reading everything.
type unsplit struct{}

func (unsplit) TryClaim(any) bool { return true }

func (unsplit) GetRestriction() any { return offsetrange.Restriction{} }

// read hands the records of t in the range of rt to yield, until that returns false.
func (fn *reader) read(ctx context.Context, rt tracker, t task, sh shape, yield func(file, *record) bool) error {
	in := fn.Config.Inputs[t.Input]
	claim := func(pos int64) bool { return rt.TryClaim(pos) }
	start := rt.GetRestriction().(offsetrange.Restriction).Start
	if t.Units == 1 {
		// The files are one unit, claimed once.
		if !claim(0) {
			return nil
		}
		claim = func(int64) bool { return true }
	}
	budget, on := in.MaxRows, true
	for _, f := range t.Files {
		if !on {
			break
		}
		obj, err := open(ctx, f.Path)
		if err != nil {
			return fmt.Errorf("source: input %s: %w", in.Name, err)
		}
		var stop error
		sc := scan{
			obj: obj, file: f, cols: in.columns(sh), limit: fn.Config.Limits.maxLineBytes(), start: start, claim: claim,
			yield: func(rec *record) bool {
				if stop = ctx.Err(); stop != nil {
					return false
				}
				on = yield(f, rec)
				if budget > 0 {
					budget--
					on = on && budget > 0
				}
				return on
			},
		}
		err = sc.run()
		// Nothing was written: closing cannot lose anything.
		_ = obj.Close()
		if err = errors.Join(err, stop); err != nil {
			return fmt.Errorf("source: input %s: %w", in.Name, err)
		}
	}
	return nil
}

// key names a record for people: input:file@offset.
func key(in *Input, f file, rec *record) string {
	sep := "@"
	if f.Format == Parquet {
		sep = "#"
	}
	return fmt.Sprintf("%s:%s%s%d", in.Name, f.base(), sep, rec.pos)
}

// letter is the dead letter of a record. Its payload is the record as it stood, for Parquet the mapped
// columns as JSON; it is cut at 4 KiB.
func letter(sh shape, in *Input, f file, rec *record, v verdict) schemas.Rejected {
	payload := rec.raw
	if f.Format == Parquet {
		cells := map[string]string{}
		for r, name := range in.columns(sh).names {
			if c := rec.cells[r]; c.kind == text || c.kind == number {
				cells[name] = string(c.bytes)
			}
		}
		// A map of strings always encodes.
		payload, _ = json.Marshal(cells)
	}
	return schemas.Rejected{
		Stage: Stage, Key: key(in, f, rec), Reason: v.reason, Attempts: 1, Detail: strings.ToValidUTF8(v.detail, "\ufffd"),
		Payload: strings.ToValidUTF8(string(payload[:min(len(payload), payloadBytes)]), "\ufffd"),
	}
}
