// Package snapshot makes the shards of a run a version of a data set: shards and counts go in, one
// manifest comes out, and readers see the whole version or none of it.
//
// # Design
//
// Below the folder of a set lie
//
//	runs/RUN/CONFIG/...parquet    immutable shards under names unique to the attempt that wrote them
//	runs/RUN/manifest.json        created once: which shards are the run, with size, rows and hash
//	runs/RUN/verdict-....json     why an attempt was refused
//	snapshots/00000001.json       created once: the arbiter between runs, names a manifest and its hash
//	LATEST                        a copy of one of them, moved by compare-and-swap, never to an older date
//
// The graph's last step (Commit) writes the manifest, the launcher publishes it (Publish). An engine may
// run the last step twice, with other inputs the second time: the manifest that was first stands, and
// the second run reports it. Nothing is renamed and nothing replaced, so a reader that holds a manifest
// reads the same rows however many versions follow. The few objects that others rest on are created by
// compare-and-swap because that is durable when it returns; before the first of them a Sync makes the
// shards so.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// format is the version of the files' layout.
const format = 1

// Rejected is the configuration of the dead letters. It never enters a digest.
const Rejected = "rejected"

// A Header is what is known of a run before it starts.
type Header struct {
	// Set is the folder of the data set in the store (preference, or loop/1/preference), RunID the
	// run's name in it. LogicalDate is the day the data are of, as 2026-01-31.
	Set         string `json:"set" yaml:"set"`
	RunID       string `json:"run_id" yaml:"run_id"`
	LogicalDate string `json:"logical_date" yaml:"logical_date"`
	// Recipe is the text of the recipe, without secrets, RecipeDigest the digest that the run id rests on.
	Recipe       string `json:"recipe,omitempty" yaml:"recipe,omitempty"`
	RecipeDigest string `json:"recipe_digest,omitempty" yaml:"recipe_digest,omitempty"`
	CodeVersion  string `json:"code_version,omitempty" yaml:"code_version,omitempty"`
	// Models maps a role (policy, judge, images) to the identity of the weights.
	Models    map[string]string `json:"models,omitempty" yaml:"models,omitempty"`
	Templates []string          `json:"templates,omitempty" yaml:"templates,omitempty"`
	Parents   []Parent          `json:"parents,omitempty" yaml:"parents,omitempty"`
	// Metadata is free: held-out checks, targets.
	Metadata map[string]string `json:"metadata,omitempty" yaml:"metadata,omitempty"`
}

// A Parent is a data set that the run read.
type Parent struct {
	Set    string `json:"set" yaml:"set"`
	RunID  string `json:"run_id" yaml:"run_id"`
	Digest string `json:"digest" yaml:"digest"`
}

// A Manifest says what a run made. It never changes once it is in the store.
type Manifest struct {
	Format int `json:"format"`
	Header
	Created time.Time `json:"created"`
	// Digest identifies the rows and schemas: see Digest. Digests has that of each configuration in it.
	Digest  string            `json:"digest"`
	Digests map[string]string `json:"digests"`
	// Rows and Schemas (schema digests) are by configuration, of all that have a row, dead letters too.
	Rows    map[string]int64  `json:"rows"`
	Schemas map[string]string `json:"schemas"`
	// Counts is the ledger: one line for each stage, outcome and reason, sorted.
	Counts []schemas.Count `json:"counts"`
	// Shards are sorted by configuration, split and index.
	Shards []schemas.Shard `json:"shards"`
}

// Parent names m to a run that is made of it.
func (m Manifest) Parent() Parent { return Parent{Set: m.Set, RunID: m.RunID, Digest: m.Digest} }

// RunDir is the folder of a run's objects: shards belong below it.
func RunDir(set, runID string) string { return path.Join(set, "runs", runID) }

func manifestName(set, runID string) string { return RunDir(set, runID) + "/manifest.json" }

func verdictPrefix(set, runID string) string { return RunDir(set, runID) + "/verdict-" }

// spillPrefix is where writers of shards keep what is of no use after the run.
func spillPrefix(set, runID string) string { return RunDir(set, runID) + "/spill/" }

// A Version is one published state of a data set.
type Version struct {
	Format int `json:"format"`
	// Version counts from 1 without gaps.
	Version     int    `json:"version"`
	Set         string `json:"set"`
	RunID       string `json:"run_id"`
	LogicalDate string `json:"logical_date"`
	// Manifest is the object, SHA256 the hash of its bytes, Digest that of the rows.
	Manifest  string           `json:"manifest"`
	SHA256    string           `json:"manifest_sha256"`
	Digest    string           `json:"digest"`
	Rows      map[string]int64 `json:"rows"`
	Published time.Time        `json:"published"`
}

// after says that LATEST should move from w to v: a back-fill of an older day does not move it.
func (v Version) after(w Version) bool {
	if v.LogicalDate != w.LogicalDate {
		return v.LogicalDate > w.LogicalDate
	}
	return v.Version > w.Version
}

func versionsPrefix(set string) string { return set + "/snapshots/" }

func versionName(set string, n int) string { return fmt.Sprintf("%s%08d.json", versionsPrefix(set), n) }

func latestName(set string) string { return set + "/LATEST" }

// versionNumber is the inverse of versionName; it is 0 for other objects.
func versionNumber(set, name string) int {
	digits, ok := strings.CutSuffix(strings.TrimPrefix(name, versionsPrefix(set)), ".json")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || versionName(set, n) != name {
		return 0
	}
	return n
}

func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// decode reads what encode wrote. A cut or changed object is an error that wraps store.ErrDamaged.
func decode(name string, data []byte, v any) error {
	var head struct {
		Format int `json:"format"`
	}
	if err := errors.Join(json.Unmarshal(data, &head), json.Unmarshal(data, v)); err != nil {
		return fmt.Errorf("snapshot: %s: %w: %w", name, store.ErrDamaged, err)
	}
	if head.Format != format {
		return fmt.Errorf("snapshot: %s: format %d, this promptmill reads format %d; use the release that wrote it", name, head.Format, format)
	}
	return nil
}
