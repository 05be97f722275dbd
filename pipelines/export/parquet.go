package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// verify compares a shard with what the manifest says of it.
func verify(ctx context.Context, st store.Store, s schemas.Shard) error {
	h := sha256.New()
	if err := stream(ctx, st, s, h); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != s.SHA256 {
		return fmt.Errorf("%s: %w: its SHA-256 is %s, not %s", s.Object, store.ErrDamaged, sum, s.SHA256)
	}
	return nil
}

func stream(ctx context.Context, st store.Store, s schemas.Shard, to io.Writer) error {
	o, err := st.Open(ctx, s.Object)
	if err != nil {
		return err
	}
	defer o.Close()
	if _, err := io.CopyBuffer(to, io.NewSectionReader(o, 0, o.Size()), make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("%s: %w", s.Object, err)
	}
	return nil
}

// copyShards copies the Parquet files under the names that Hugging Face datasets expects, and writes the
// card that says which file is which.
func (e *exporter) copyShards(ctx context.Context) error {
	type place struct{ config, split string }
	total := map[place]int{}
	for _, s := range e.manifest.Shards {
		total[place{s.Config, s.Split}]++
	}
	done := map[place]int{}
	for _, s := range e.manifest.Shards {
		p := place{s.Config, s.Split}
		name := fmt.Sprintf("%s/%s-%05d-of-%05d.parquet", e.folder(s.Config), s.Split, done[p], total[p])
		done[p]++
		if err := e.copyShard(ctx, s, name); err != nil {
			return err
		}
		e.Files = append(e.Files, dataset.File{Name: name, Rows: s.Rows, Bytes: s.Bytes, SHA256: s.SHA256})
	}
	return e.putText(ctx, "README.md", e.card())
}

// folder is where the files of a configuration lie: data, if there is only one.
func (e *exporter) folder(config string) string {
	if e.Format == TRL {
		return "data"
	}
	return path.Join("data", config)
}

func (e *exporter) copyShard(ctx context.Context, s schemas.Shard, name string) error {
	w, err := e.dst.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := stream(ctx, e.src, s, w); err != nil {
		return err
	}
	err = w.Commit()
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%w; another export is there: choose an empty folder", err)
	}
	return err
}

// sizes are the hub's size_categories.
var sizes = []struct {
	below int64
	name  string
}{{1e3, "n<1K"}, {1e4, "1K<n<10K"}, {1e5, "10K<n<100K"}, {1e6, "100K<n<1M"}, {1e7, "1M<n<10M"}}

// card is the README: YAML that the hub and the reader of datasets understand, then words.
func (e *exporter) card() string {
	var b bytes.Buffer
	configs := map[string]map[string]bool{}
	var rows int64
	for _, s := range e.manifest.Shards {
		if configs[s.Config] == nil {
			configs[s.Config] = map[string]bool{}
		}
		configs[s.Config][s.Split] = true
		rows += s.Rows
	}
	fmt.Fprint(&b, "---\n")
	if e.cfg.License != "" {
		fmt.Fprintf(&b, "license: %s\n", quote(e.cfg.License))
	}
	size := "n>10M"
	for _, s := range slices.Backward(sizes) {
		if rows < s.below {
			size = s.name
		}
	}
	fmt.Fprintf(&b, "tags:\n- text-to-image\n- prompt-rewriting\n- synthetic\ntask_categories:\n- text-generation\nsize_categories:\n- %s\nconfigs:\n", size)
	for _, config := range slices.Sorted(maps.Keys(configs)) {
		fmt.Fprintf(&b, "- config_name: %s\n  data_files:\n", quote(config))
		for _, split := range slices.Sorted(maps.Keys(configs[config])) {
			fmt.Fprintf(&b, "  - split: %s\n    path: %s\n", quote(split), quote(e.folder(config)+"/"+split+"-*.parquet"))
		}
	}
	fmt.Fprintf(&b, "---\n\n# %s\n\nExported from run `%s` of %s; digest of the rows `%s`.\n", e.Set, e.RunID, e.manifest.LogicalDate, e.Digest)
	fmt.Fprint(&b, "Pictures, scores and answers were made by models; nothing in them is a person's statement unless a column\nsays so (`fact_source`).\n\n")
	fmt.Fprint(&b, "| configuration | split | rows |\n|---|---|---:|\n")
	for _, name := range slices.Sorted(maps.Keys(e.Rows)) {
		config, split, _ := strings.Cut(name, "/")
		fmt.Fprintf(&b, "| %s | %s | %d |\n", config, split, e.Rows[name])
	}
	if len(e.manifest.Models) > 0 {
		fmt.Fprint(&b, "\n| role | weights |\n|---|---|\n")
		for _, role := range slices.Sorted(maps.Keys(e.manifest.Models)) {
			fmt.Fprintf(&b, "| %s | `%s` |\n", role, e.manifest.Models[role])
		}
	}
	return b.String()
}

// quote writes a YAML string: JSON's are.
func quote(s string) string {
	b, _ := json.Marshal(s) // a string always marshals
	return string(b)
}
