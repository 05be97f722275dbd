package export_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/pipelines/export"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func say(role, text string) schemas.Message { return schemas.Message{Role: role, Content: text} }

func picture(t *testing.T, shade uint8) schemas.Image {
	t.Helper()
	b, err := modeltest.Picture(t, 4, 4, shade).Bytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return schemas.Image{Bytes: b, Path: "picture.png"}
}

// A snap is a snapshot in the making.
type snap struct {
	t        *testing.T
	store    store.Store
	manifest snapshot.Manifest
}

func newSnap(t *testing.T) *snap {
	t.Helper()
	// A root whose URL has to be escaped.
	dir := filepath.Join(t.TempDir(), "a #store")
	st, err := store.Open(t.Context(), "file://"+strings.NewReplacer(" ", "%20", "#", "%23").Replace(dir))
	if err != nil {
		t.Fatal(err)
	}
	return &snap{t: t, store: st, manifest: snapshot.Manifest{
		Header: snapshot.Header{Set: "preference", RunID: "run-1", LogicalDate: "2026-01-31", Models: map[string]string{"policy": "scene@1"}},
		Digest: "d1", Rows: map[string]int64{}, Schemas: map[string]string{},
	}}
}

// add adds a shard of rows.
func add[T schemas.Row](s *snap, config, split string, rows ...T) {
	s.t.Helper()
	data, err := os.ReadFile(modeltest.Shard(s.t, rows...))
	if err != nil {
		s.t.Fatal(err)
	}
	index := int32(len(s.manifest.Shards))
	name := fmt.Sprintf("preference/runs/run-1/%s/%s #%d.parquet", config, split, index)
	if err := s.store.PutIfAbsent(s.t.Context(), name, data); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	digest := schemas.SchemaDigest(schemas.TableOf[T]().Schema())
	s.manifest.Shards = append(s.manifest.Shards, schemas.Shard{
		Config: config, Split: split, Index: index, Object: name, Rows: int64(len(rows)), Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Schema: digest,
	})
	s.manifest.Rows[config] += int64(len(rows))
	s.manifest.Schemas[config] = digest
}

func pair(id string) schemas.PreferencePair {
	return schemas.PreferencePair{
		ID: id, Kind: schemas.KindRewrite, PromptID: "p" + id, Prompt: []schemas.Message{say("system", "Rewrite."), say("user", "a cat <"+id+"> 🐈")},
		Chosen: []schemas.Message{say("assistant", "a fluffy cat\nin \"soft\" light")}, Rejected: []schemas.Message{say("assistant", "cat")},
		ChosenScore: 2, RejectedScore: 1, Margin: 1,
	}
}

func chat(id string, images ...schemas.Image) schemas.VisionChatExample {
	return schemas.VisionChatExample{ID: id, Task: schemas.TaskEvaluation, Messages: []schemas.Message{say("user", "Which picture "+id+"?"), say("assistant", "Image 1.")}, Images: images}
}

func pairs(t *testing.T) *snap {
	s := newSnap(t)
	add(s, "preference", "test", pair("5"))
	add(s, "preference", "train", pair("1"), pair("2"))
	add(s, "preference", "train", pair("3"))
	add(s, "candidates", "train", schemas.Candidate{ID: "c", PromptID: "p", Text: "x"})
	add(s, snapshot.Rejected, "train", schemas.Rejected{Stage: "judge", Reason: "tie"})
	return s
}

func vision(t *testing.T) *snap {
	s := newSnap(t)
	a, b := picture(t, 1), picture(t, 2)
	add(s, "evaluation", "train", chat("1", a, b), chat("2", b), chat("3"))
	return s
}

func target(t *testing.T) (store.Store, string) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return st, dir
}

// parquetFile is an entry of export.json whose bytes are a copy of the snapshot's.
var parquetFile = regexp.MustCompile(`(\.parquet",\s*"rows": \d+),\s*"bytes": \d+,\s*"sha256": "\w+"`)

// listing is every file with its text, pictures by their hash and Parquet files by name only: those are copies.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && strings.HasPrefix(d.Name(), ".") && path != dir {
				return fs.SkipDir // the store's own folder
			}
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "-- %s --\n", name)
		switch filepath.Ext(path) {
		case ".png":
			fmt.Fprintf(&b, "%d bytes, SHA-256 %x\n", len(data), sha256.Sum256(data))
		case ".parquet":
		default:
			b.Write(parquetFile.ReplaceAll(data, []byte("$1")))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		snap func(*testing.T) *snap
		cfg  export.Config
	}{
		{"trl", pairs, export.Config{Format: "trl"}},
		{"trl_vision", vision, export.Config{Format: "trl"}},
		{"llamafactory", pairs, export.Config{Format: "llamafactory", ShardRows: 2}},
		{"llamafactory_vision", vision, export.Config{Format: "llamafactory"}},
		{"openai", pairs, export.Config{Format: "openai"}},
		{"openai_vision", vision, export.Config{Format: "openai"}},
		{"llava", vision, export.Config{Format: "llava", Configuration: "evaluation"}},
		{"hf", pairs, export.Config{Format: "hf", License: "cc-by-4.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.snap(t)
			dst, dir := target(t)
			for range 2 { // a second time changes nothing
				r, err := export.Write(t.Context(), s.store, s.manifest, dst, c.cfg)
				if err != nil {
					t.Fatal(err)
				}
				checkFiles(t, dst, r)
			}
			got, golden := listing(t, dir), filepath.Join("testdata", c.name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got); -update rewrites:\n%s", diff)
			}
		})
	}
}

// checkFiles compares what is there with what the result says.
func checkFiles(t *testing.T, dst store.Store, r export.Result) {
	t.Helper()
	var rows, want int64
	for _, f := range r.Files {
		data, _, err := dst.Read(t.Context(), f.Name)
		if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(data)) != f.Bytes {
			t.Errorf("%s: %d bytes, SHA-256 %x, %v; want %+v", f.Name, len(data), sum, err, f)
		}
		rows += f.Rows
	}
	for _, n := range r.Rows {
		want += n
	}
	if rows != want || rows == 0 {
		t.Errorf("%d rows in the files; want %d", rows, want)
	}
}

func TestRefuses(t *testing.T) {
	dead := func(t *testing.T) *snap {
		s := newSnap(t)
		p := pair("equal")
		p.Rejected = p.Chosen
		add(s, "preference", "train", pair("1"), p)
		return s
	}
	damaged := func(t *testing.T) *snap {
		s := pairs(t)
		name := s.manifest.Shards[1].Object
		data, _, err := s.store.Read(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		data[10] ^= 1
		if err := errors.Join(s.store.Delete(t.Context(), name), s.store.PutIfAbsent(t.Context(), name, data)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	two := func(t *testing.T) *snap {
		s := pairs(t)
		add(s, "evaluation", "train", chat("1"))
		return s
	}
	for name, c := range map[string]struct {
		snap func(*testing.T) *snap
		cfg  export.Config
		want error
		says string
	}{
		"gate":          {dead, export.Config{Format: "trl"}, conformance.ErrFaulty, "(equal): equal:"},
		"damaged":       {damaged, export.Config{Format: "openai"}, store.ErrDamaged, "SHA-256"},
		"which":         {two, export.Config{Format: "trl"}, nil, "name one of candidates, evaluation, preference"},
		"no such":       {pairs, export.Config{Format: "trl", Configuration: "pairs"}, nil, `no configuration "pairs"`},
		"not trainable": {pairs, export.Config{Format: "trl", Configuration: "candidates"}, nil, "not the columns"},
		"llava pairs":   {pairs, export.Config{Format: "llava"}, nil, "trl or llamafactory"},
		"empty":         {newSnap, export.Config{Format: "hf"}, nil, "no rows"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.snap(t)
			dst, dir := target(t)
			_, err := export.Write(t.Context(), s.store, s.manifest, dst, c.cfg)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %v that says %q", err, c.want, c.says)
			}
			if got := listing(t, dir); got != "" {
				t.Errorf("after a refusal there is\n%s", got)
			}
		})
	}
}

func TestOtherExportThere(t *testing.T) {
	dst, _ := target(t)
	s := pairs(t)
	if _, err := export.Write(t.Context(), s.store, s.manifest, dst, export.Config{Format: "trl"}); err != nil {
		t.Fatal(err)
	}
	other := newSnap(t)
	add(other, "preference", "train", pair("9"))
	add(other, "preference", "train", pair("8"))
	if _, err := export.Write(t.Context(), other.store, other.manifest, dst, export.Config{Format: "trl"}); !errors.Is(err, store.ErrExists) || !strings.Contains(err.Error(), "empty folder") {
		t.Errorf("onto another export: %v; want ErrExists", err)
	}
}

func TestConfig(t *testing.T) {
	err := export.Config{Format: "csv", ShardRows: -1}.Validate()
	for _, path := range []string{"export.format: ", "export.shard_rows: "} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("no fault at %s%v", path, err)
		}
	}
	full := export.Config{Format: "hf", Configuration: "c", ShardRows: 3, License: "mit"}
	var back export.Config
	data, err := json.Marshal(full)
	if err := errors.Join(err, json.Unmarshal(data, &back)); err != nil || !reflect.DeepEqual(full, back) {
		t.Errorf("%+v comes back as %+v: %v", full, back, err)
	}
}

func ExampleWrite() {
	ctx := context.Background()
	src, err := store.Open(ctx, "no/such/store")
	if err != nil {
		fmt.Println(err)
		return
	}
	m, _, err := snapshot.Latest(ctx, src, "preference")
	if err != nil {
		fmt.Println("nothing is published yet")
		return
	}
	dst, err := store.Open(ctx, "export")
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := export.Write(ctx, src, m, dst, export.Config{Format: export.TRL})
	fmt.Println(result.Rows, err)
	// Output: nothing is published yet
}
