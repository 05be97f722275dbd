// Package export turns a committed snapshot into the files that a trainer or a hub reads.
//
//	manifest -> shards of one configuration -> hashes verified -> conformance gate -> files + card
//
// # Design
//
// Every format is a function of the manifest and its rows: the same snapshot gives the same bytes, an
// export that was cut short goes on with the same command, and one into a folder that holds something else is
// refused. The manifest of the export, export.json, is written last: a folder without it is not finished.
package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Formats beside those of package dataset.
const (
	// TRL is the Parquet of one configuration as it is, in a folder that Hugging Face datasets loads.
	TRL = "trl"
	// HF is a repository of Hugging Face's hub: every configuration but the dead letters, with a card.
	HF = "hf"
)

// Formats are all formats, in the order of the command's help.
func Formats() []string {
	return []string{TRL, string(dataset.LlamaFactory), string(dataset.OpenAI), string(dataset.LLaVA), HF}
}

// Config says what is exported as what.
type Config struct {
	// Format is one of Formats.
	Format string `json:"format" yaml:"format"`
	// Configuration is the configuration of the snapshot; "" is its only one that can be trained on. The
	// format hf takes all unless one is named.
	Configuration string `json:"configuration" yaml:"configuration"`
	// ShardRows is how many rows a file holds where rows are rewritten; 0 is no limit.
	ShardRows int64 `json:"shard_rows" yaml:"shard_rows"`
	// License is an SPDX identifier for the card of hf; "" leaves it out.
	License string `json:"license" yaml:"license"`
}

// Validate joins all faults.
func (c Config) Validate() error {
	var errs []error
	if !slices.Contains(Formats(), c.Format) {
		errs = append(errs, fmt.Errorf("export.format: %q is not one of %s", c.Format, strings.Join(Formats(), ", ")))
	}
	if c.ShardRows < 0 {
		errs = append(errs, fmt.Errorf("export.shard_rows: %d is negative; 0 is no limit", c.ShardRows))
	}
	return errors.Join(errs...)
}

// A Result is what was exported: the content of export.json.
type Result struct {
	Format string `json:"format"`
	// Set, RunID and Digest are the snapshot's.
	Set    string `json:"set"`
	RunID  string `json:"run_id"`
	Digest string `json:"digest"`
	// Rows are by configuration and split, as in "preference/train". Files hold them; Pictures counts
	// the picture files beside them.
	Rows     map[string]int64 `json:"rows"`
	Files    []dataset.File   `json:"files"`
	Pictures int              `json:"pictures"`
}

// Write exports snapshot m of the store src into the root of dst. Rows that a trainer would stumble
// over give an error that wraps conformance.ErrFaulty before anything is written; damaged files one that
// wraps store.ErrDamaged. It panics if cfg is not valid.
func Write(ctx context.Context, src store.Store, m snapshot.Manifest, dst store.Store, cfg Config) (Result, error) {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	configurations, err := cfg.choose(m)
	if err != nil {
		return Result{}, err
	}
	m.Shards = slices.DeleteFunc(slices.Clone(m.Shards), func(s schemas.Shard) bool { return !slices.Contains(configurations, s.Config) })
	e := exporter{cfg: cfg, src: src, dst: dst, manifest: m}
	e.Result = Result{Format: cfg.Format, Set: m.Set, RunID: m.RunID, Digest: m.Digest, Rows: map[string]int64{}}
	for _, s := range m.Shards {
		e.Rows[s.Config+"/"+s.Split] += s.Rows
	}
	if err := e.verify(ctx); err != nil {
		return Result{}, fmt.Errorf("export: %w", err)
	}
	if cfg.Format != HF {
		if err := e.gate(ctx); err != nil {
			return Result{}, fmt.Errorf("export: %s: %w", configurations[0], err)
		}
	}
	if cfg.Format == HF || cfg.Format == TRL {
		err = e.copyShards(ctx)
	} else {
		err = e.rewrite(ctx)
	}
	if err == nil {
		err = e.put(ctx, "export.json", e.Result)
	}
	if err != nil {
		return Result{}, fmt.Errorf("export: %w", err)
	}
	return e.Result, nil
}

// trainable are the schemas of rows that trainers take.
func trainable() map[string]bool {
	digests := map[string]bool{}
	for _, d := range []string{
		schemas.SchemaDigest(schemas.TableOf[schemas.PreferencePair]().Schema()), schemas.SchemaDigest(schemas.TableOf[schemas.VisionPreferencePair]().Schema()),
		schemas.SchemaDigest(schemas.TableOf[schemas.ChatExample]().Schema()), schemas.SchemaDigest(schemas.TableOf[schemas.VisionChatExample]().Schema()),
		schemas.SchemaDigest(schemas.TableOf[schemas.Evaluation]().Schema()), schemas.SchemaDigest(schemas.TableOf[schemas.JudgmentExample]().Schema()),
	} {
		digests[d] = true
	}
	return digests
}

// choose finds the configurations that cfg means.
func (c Config) choose(m snapshot.Manifest) ([]string, error) {
	all := slices.Sorted(maps.Keys(m.Rows))
	all = slices.DeleteFunc(all, func(name string) bool { return name == snapshot.Rejected })
	switch {
	case c.Configuration != "" && !slices.Contains(all, c.Configuration):
		return nil, fmt.Errorf("export: %s run %s has no configuration %q; there are %s", m.Set, m.RunID, c.Configuration, strings.Join(all, ", "))
	case c.Configuration != "":
		return []string{c.Configuration}, nil
	case len(all) == 0:
		return nil, fmt.Errorf("export: %s run %s has no rows", m.Set, m.RunID)
	case c.Format == HF:
		return all, nil
	}
	known := trainable()
	fit := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !known[m.Schemas[name]] })
	if len(fit) != 1 {
		return nil, fmt.Errorf("export: %s run %s has %d configurations to train on; name one of %s", m.Set, m.RunID, len(fit), strings.Join(all, ", "))
	}
	return fit, nil
}

type exporter struct {
	Result
	cfg      Config
	src, dst store.Store
	// manifest has only the shards that are exported.
	manifest snapshot.Manifest
}

// verify reads the shards and compares them with the manifest.
func (e *exporter) verify(ctx context.Context) error {
	for _, s := range e.manifest.Shards {
		if err := verify(ctx, e.src, s); err != nil {
			return err
		}
	}
	return nil
}

// urls are the shards of a split, in order; "" takes all.
func (e *exporter) urls(split string) []string {
	var urls []string
	for _, s := range e.manifest.Shards {
		if split == "" || s.Split == split {
			urls = append(urls, objectURL(e.src.URL(), s.Object))
		}
	}
	return urls
}

// objectURL is the URL of an object in the store at root.
func objectURL(root, name string) string {
	if strings.HasPrefix(root, "file://") {
		name = (&url.URL{Path: name}).EscapedPath()
	}
	return strings.TrimRight(root, "/") + "/" + name
}

func (e *exporter) splits() []string {
	seen := map[string]bool{}
	for _, s := range e.manifest.Shards {
		seen[s.Split] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func (e *exporter) gate(ctx context.Context) error {
	method := model.MethodSFT
	for row, err := range dataset.Read(ctx, e.urls("")) {
		if err != nil {
			return err
		}
		if row.Preference {
			method = model.MethodDPO
		}
		break
	}
	cfg := conformance.DefaultConfig(method)
	if e.Format == TRL {
		cfg.Placeholders = conformance.Implied
	}
	report, err := conformance.Check(ctx, cfg, nil, e.urls(""))
	if err != nil {
		return err
	}
	return report.Err()
}

// rewrite writes the rows in another format, each split in its folder.
func (e *exporter) rewrite(ctx context.Context) error {
	sets := map[string]dataset.Info{}
	for _, split := range e.splits() {
		cfg := dataset.WriteConfig{Format: dataset.Format(e.Format), Split: split, ShardRows: e.cfg.ShardRows}
		w, err := dataset.Write(ctx, e.dst, cfg, dataset.Read(ctx, e.urls(split)))
		if err != nil {
			return err
		}
		e.Files, e.Pictures = append(e.Files, w.Files...), e.Pictures+w.Pictures
		sets[split] = w.Info(split)
	}
	if dataset.Format(e.Format) == dataset.LlamaFactory {
		return dataset.WriteInfo(ctx, e.dst, "", sets)
	}
	return nil
}

func (e *exporter) put(ctx context.Context, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return e.putText(ctx, name, string(data)+"\n")
}

func (e *exporter) putText(ctx context.Context, name, text string) error {
	err := e.dst.PutIfAbsent(ctx, name, []byte(text))
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%w; another export is there: choose an empty folder", err)
	}
	return err
}
