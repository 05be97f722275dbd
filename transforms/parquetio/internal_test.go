package parquetio

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// What a runner does that runs a bundle again: the methods of the DoFns are called twice, or a bundle
// is left in the middle, and only the last attempt's outputs count.
func TestRetries(t *testing.T) {
	ctx := t.Context()
	cfg := WriteConfig{Store: t.TempDir(), Dir: "d", Config: "c", Stage: "s", Buckets: 2, BufferBytes: 300}
	rows := []schemas.Prompt{{ID: "a", Text: "1"}, {ID: "b", Text: "2"}, {ID: "c", Text: "3"}, {ID: "d", Text: "4"}, {ID: "e", Text: "5"}}

	fn := &spillFn[schemas.Prompt]{WriteConfig: cfg}
	if err := fn.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	type attempt struct {
		spills map[int64][]spill
		counts []schemas.Count
	}
	bundle := func(rows []schemas.Prompt, finish bool) (a attempt) {
		a.spills = map[int64][]spill{}
		emit := func(b int64, s spill) { a.spills[b] = append(a.spills[b], s) }
		count := func(c schemas.Count) { a.counts = append(a.counts, c) }
		fn.StartBundle(ctx, emit, count)
		for _, r := range rows {
			if err := fn.ProcessElement(ctx, r, emit, count); err != nil {
				t.Fatal(err)
			}
		}
		if finish {
			if err := fn.FinishBundle(ctx, emit, count); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	bundle(rows, true)      // lost after its end
	bundle(rows[:3], false) // lost in the middle
	got := bundle(rows, true)
	want := []schemas.Count{{Stage: "s", Outcome: schemas.In, N: int64(len(rows))}}
	if diff := cmp.Diff(want, got.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}

	out := &shardFn[schemas.Prompt]{WriteConfig: cfg}
	if err := out.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	finish := func() (shards []schemas.Shard, counts []schemas.Count) {
		for b := range int64(cfg.Buckets) {
			left := got.spills[b]
			next := func(s *spill) bool {
				if len(left) == 0 {
					return false
				}
				*s, left = left[0], left[1:]
				return true
			}
			err := out.ProcessElement(ctx, b, next, func(s schemas.Shard) { shards = append(shards, s) }, func(c schemas.Count) { counts = append(counts, c) })
			if err != nil {
				t.Fatal(err)
			}
		}
		return shards, counts
	}
	first, firstCounts := finish()
	again, againCounts := finish()
	if diff := cmp.Diff(firstCounts, againCounts); diff != "" {
		t.Errorf("counts (-first +again):\n%s", diff)
	}
	var texts []string
	for i := range first {
		if first[i].Object == again[i].Object {
			t.Errorf("two attempts wrote %s", first[i].Object)
		}
		if first[i].SHA256 != again[i].SHA256 {
			t.Errorf("shard %d: two attempts wrote other bytes", i)
		}
		for _, s := range []schemas.Shard{first[i], again[i]} {
			if err := Verify(ctx, out.store, s); err != nil {
				t.Error(err)
			}
		}
	}
	if err := Rows(ctx, out.store, again, func(p schemas.Prompt) error { texts = append(texts, p.Text); return nil }); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(texts); strings.Join(texts, "") != "12345" {
		t.Errorf("rows %q", texts)
	}
}

// A bad world is an error that names the object, and leaves no shard.
func TestDamagedSpill(t *testing.T) {
	ctx := t.Context()
	fn := &shardFn[schemas.Prompt]{WriteConfig: WriteConfig{Store: t.TempDir(), Dir: "d", Config: "c", Stage: "s", Buckets: 1}}
	if err := fn.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	good := compress(appendRecord(nil, 1, "k", "t", schemas.TableOf[schemas.Prompt]().Append(nil, &schemas.Prompt{ID: "k"})))
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, block := range map[string][]byte{"flipped": flipped, "short": good[:len(good)-1], "rows": good, "cut": compress([]byte("0123456789"))} {
		object := fn.WriteConfig.spillObject(name)
		if err := fn.store.PutIfAbsent(ctx, object, block); err != nil {
			t.Fatal(err)
		}
		s := spill{ID: name, Length: int64(len(good)), Rows: 2}
		if name == "cut" {
			s.Length = int64(len(block))
		}
		_, err := fn.load(ctx, []spill{s})
		if err == nil || !strings.Contains(err.Error(), "spill "+object) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := fn.load(ctx, []spill{{ID: "gone"}}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestCancelled: a cancelled bundle ends with an error, not with a file.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fn := &spillFn[schemas.Prompt]{WriteConfig: WriteConfig{Store: t.TempDir(), Dir: "d", Config: "c", Stage: "s", Buckets: 1}}
	if err := fn.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	emit := func(int64, spill) { t.Error("a spill of a cancelled bundle was emitted") }
	fn.StartBundle(ctx, emit, nil)
	if err := fn.ProcessElement(ctx, schemas.Prompt{ID: "a", Text: "a"}, emit, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := fn.FinishBundle(ctx, emit, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Whatever a block holds, decoding ends with rows or an error; what it accepts it writes back equal.
func FuzzRecords(f *testing.F) {
	row := schemas.TableOf[schemas.Reward]().Append(nil, &schemas.Reward{CandidateID: "c", Total: 1})
	f.Add(appendRecord(appendRecord(nil, 1, "k", "", row), 2, "", "t", row))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, block []byte) {
		records, err := appendRecords(nil, block)
		if err != nil {
			return
		}
		for _, r := range records {
			row, err := appendRow(nil, r.row)
			if err != nil {
				continue
			}
			again := appendRecord(nil, r.rank, string(r.key), string(r.tie), row)
			back, err := appendRecords(nil, again)
			if err != nil || len(back) != 1 || back[0].rank != r.rank || !bytes.Equal(back[0].key, r.key) || !bytes.Equal(back[0].tie, r.tie) {
				t.Fatalf("%x: %v", again, err)
			}
			row2, err := appendRow(nil, back[0].row)
			if third := appendRecord(nil, r.rank, string(r.key), string(r.tie), row2); err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%v, then %v: %v", row, row2, err)
			}
		}
	})
}
