package responselog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/store"
)

// remote is a store that cannot append, as object stores are, and that can be made to fail.
type remote struct {
	store.Store
	putting func() error
	gone    func(name string) bool
}

func (r *remote) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if r.putting != nil {
		if err := r.putting(); err != nil {
			return err
		}
	}
	return r.Store.PutIfAbsent(ctx, name, data)
}

// Open gives objects that end with the object, as those of a server do; a file that is open stays readable.
func (r *remote) Open(ctx context.Context, name string) (store.Object, error) {
	o, err := r.Store.Open(ctx, name)
	return remoteObject{o, r, name}, err
}

type remoteObject struct {
	store.Object
	r    *remote
	name string
}

func (o remoteObject) ReadAt(p []byte, off int64) (int, error) {
	if o.r.gone != nil && o.r.gone(o.name) {
		return 0, fmt.Errorf("read %s: %w", o.name, store.ErrNotExist)
	}
	return o.Object.ReadAt(p, off)
}

// quick is a local store that leaves writing back to the system, for tests that open many logs.
type quick struct {
	store.Store
	store.Appender
}

func (quick) Sync(context.Context) error { return nil }

func unsynced(t testing.TB, dir string) store.Store {
	st := local(t, dir)
	return quick{st, st.(store.Appender)}
}

// remember asks for answers to n prompts and returns them; expect asks again and wants them from the log.
func remember(t testing.TB, log *responselog.Log, what string, n int) []string {
	t.Helper()
	chat := responselog.Chat(newSpeaker(), log)
	var all []string
	for i := range n {
		texts, _ := ask(t, chat, request(fmt.Sprint(what, i), int64(i), 3))
		all = append(all, texts...)
	}
	return all
}

func expect(t testing.TB, log *responselog.Log, what string, want []string) {
	t.Helper()
	inner := newSpeaker()
	chat := responselog.Chat(inner, log)
	var got []string
	for i := range len(want) / 3 {
		texts, _ := ask(t, chat, request(fmt.Sprint(what, i), int64(i), 3))
		got = append(got, texts...)
	}
	if n := inner.calls.Load(); n != 0 {
		t.Errorf("%s: %d of %d calls were asked again", what, n, len(want)/3)
	} else if !slices.Equal(got, want) {
		t.Errorf("%s: the log gives other answers", what)
	}
}

func TestReopen(t *testing.T) {
	st := local(t, t.TempDir())
	for _, tc := range []struct {
		name string
		st   store.Store
	}{{"local", st}, {"remote", &remote{Store: local(t, t.TempDir())}}} {
		t.Run(tc.name, func(t *testing.T) {
			log := open(t, tc.st)
			want := remember(t, log, "p", 50)
			expect(t, log, "p", want)
			shut(t, log)
			shut(t, log)
			if w, s := names(t, tc.st, "responses/wal-"), names(t, tc.st, "responses/"); len(w) != 0 || len(s) != 1 {
				t.Errorf("after Close there are %q", s)
			}
			log = open(t, tc.st)
			if s := log.Stats(); s.Calls != 50 || s.Segments != 1 || s.Journals != 0 {
				t.Errorf("stats %+v", s)
			}
			expect(t, log, "p", want)
			if s := log.Stats(); s.Hits != 150 || s.Stored != 0 || s.Damaged != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestOpenIsOncePerProcess(t *testing.T) {
	dir := t.TempDir()
	log, err := responselog.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{dir, dir + "/."} {
		if again, err := responselog.Open(t.Context(), url); err != nil || again != log {
			t.Errorf("%s: another log, %v", url, err)
		}
	}
	want := remember(t, log, "p", 1)
	shut(t, log)
	again, err := responselog.Open(t.Context(), dir)
	if err != nil || again == log {
		t.Fatalf("the closed log is still given out, %v", err)
	}
	expect(t, again, "p", want)
	shut(t, again)
	if _, err := responselog.Open(t.Context(), "no-such://place"); err == nil {
		t.Error("a log in no store opens")
	}
}

// journal leaves a journal with n records behind, as a killed process does, and returns its path.
func journal(t *testing.T, dir string, n int) (path string, want []string) {
	t.Helper()
	log := open(t, local(t, dir))
	want = remember(t, log, "p", n)
	files, err := filepath.Glob(filepath.Join(dir, "responses", "wal-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("journals %q, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	shut(t, log)
	if err := os.RemoveAll(filepath.Join(dir, "responses")); err != nil {
		t.Fatal(err)
	}
	write(t, files[0], data)
	return files[0], want
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestTornJournal(t *testing.T) {
	whole := t.TempDir()
	path, want := journal(t, whole, 3)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range data {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "responses", filepath.Base(path)), data[:cut])
		log := open(t, unsynced(t, dir))
		n := log.Stats().Calls
		if full := cut * 3 / len(data); n != full {
			t.Fatalf("%d of %d bytes hold %d records, want %d", cut, len(data), n, full)
		}
		if cut%16 == 0 {
			expect(t, log, "p", want[:3*n])
		}
		if got := names(t, local(t, dir), "responses/wal-"); len(got) != 0 || log.Stats().Damaged != 0 {
			t.Fatalf("a torn end is taken for damage, or %q stay behind", got)
		}
		shut(t, log)
	}
}

// TestFlippedByte damages each byte of a journal and of a segment in turn: never a wrong answer, and
// only answers of the record that was hit are asked again.
func TestFlippedByte(t *testing.T) {
	whole := t.TempDir()
	path, want := journal(t, whole, 3)
	asJournal, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, open(t, local(t, whole)))
	segments := names(t, local(t, whole), "responses/")
	if len(segments) != 1 {
		t.Fatalf("there are %q", segments)
	}
	asSegment, err := os.ReadFile(filepath.Join(whole, segments[0]))
	if err != nil {
		t.Fatal(err)
	}
	for name, sound := range map[string][]byte{"responses/wal-h-1-x": asJournal, segments[0]: asSegment} {
		for at := 0; at < len(sound); at += 3 {
			dir := t.TempDir()
			data := bytes.Clone(sound)
			data[at] ^= 1 << rand.IntN(8)
			write(t, filepath.Join(dir, name), data)
			log := open(t, unsynced(t, dir))
			inner := newSpeaker()
			chat := responselog.Chat(inner, log)
			for i := range 3 {
				texts, usage := ask(t, chat, request(fmt.Sprint("p", i), int64(i), 3))
				if usage.Calls == 0 && !slices.Equal(texts, want[3*i:3*i+3]) {
					t.Fatalf("%s byte %d: wrong answers %q", name, at, texts)
				}
			}
			again, inTail := inner.calls.Load(), strings.HasPrefix(name, "responses/wal-") && log.Stats().Damaged == 0
			if again > 1 || again == 1 && log.Stats().Damaged == 0 && !inTail {
				t.Fatalf("%s byte %d: %d records asked again, %d damaged", name, at, again, log.Stats().Damaged)
			}
			// What was asked again is kept and found in place of the damaged one.
			calls := inner.calls.Load()
			for i := range 3 {
				ask(t, chat, request(fmt.Sprint("p", i), int64(i), 3))
			}
			if inner.calls.Load() != calls {
				t.Fatalf("%s byte %d: asked twice", name, at)
			}
			shut(t, log)
		}
	}
}

func TestTwoLogsAtOnce(t *testing.T) {
	st := local(t, t.TempDir())
	first := open(t, st)
	early := remember(t, first, "early", 5)
	second := open(t, st) // the first lives: its journal is locked
	expect(t, second, "early", early)
	late := remember(t, first, "late", 5)
	other := remember(t, second, "other", 5)
	// Both ask for the same; the first to store it wins from the next Open on.
	won := remember(t, first, "both", 5)
	lost := remember(t, second, "both", 5)
	if slices.Equal(won, lost) {
		t.Fatal("two processes got equal answers: this test proves nothing")
	}
	shut(t, first) // its journal goes away under the second
	expect(t, second, "early", early)
	expect(t, second, "both", lost)
	shut(t, second)
	for range 2 {
		log := open(t, st)
		expect(t, log, "early", early)
		expect(t, log, "late", late)
		expect(t, log, "other", other)
		expect(t, log, "both", won)
		shut(t, log)
	}
}

func TestManySegmentsAreMerged(t *testing.T) {
	for _, tc := range []struct {
		name string
		st   store.Store
	}{{"local", local(t, t.TempDir())}, {"remote", &remote{Store: local(t, t.TempDir())}}} {
		t.Run(tc.name, func(t *testing.T) {
			answers := map[string][]string{}
			for i := range 17 {
				log := open(t, tc.st)
				what := fmt.Sprint("run", i, "-")
				answers[what] = remember(t, log, what, 4)
				shut(t, log)
			}
			if n := len(names(t, tc.st, "responses/seg-")); n != 17 {
				t.Fatalf("%d segments before", n)
			}
			// Some processes find them at once.
			logs := make([]*responselog.Log, 4)
			var wg sync.WaitGroup
			for i := range logs {
				wg.Go(func() {
					log, err := responselog.New(t.Context(), tc.st)
					if err != nil {
						t.Error(err)
						return
					}
					logs[i] = log
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			if n := len(names(t, tc.st, "responses/")); n > 4 {
				t.Errorf("%d segments after", n)
			}
			logs = append(logs, open(t, tc.st))
			for _, log := range logs {
				for what, want := range answers {
					expect(t, log, what, want)
				}
				shut(t, log)
			}
		})
	}
}

// TestALostSegmentIsFoundUnderAnotherName merges the segments of a log that is open.
func TestALostSegmentIsFoundUnderAnotherName(t *testing.T) {
	base := local(t, t.TempDir())
	st := &remote{Store: base}
	answers := map[string][]string{}
	for i := range 16 {
		log := open(t, st)
		what := fmt.Sprint("run", i, "-")
		answers[what] = remember(t, log, what, 2)
		shut(t, log)
	}
	before := names(t, st, "responses/")
	reader := open(t, st)
	own := remember(t, reader, "own", 2)
	other := open(t, st)
	later := remember(t, other, "later", 2)
	shut(t, other)
	shut(t, open(t, st)) // merges 17
	there := names(t, st, "responses/")
	if slices.ContainsFunc(before, func(name string) bool { return slices.Contains(there, name) }) {
		t.Fatalf("not merged: %q", there)
	}
	st.gone = func(name string) bool { return slices.Contains(before, name) }
	var wg sync.WaitGroup
	for what, want := range answers {
		wg.Go(func() { expect(t, reader, what, want) })
	}
	wg.Wait()
	expect(t, reader, "own", own)
	expect(t, reader, "later", later) // now that it has listed again
	if s := reader.Stats(); s.Segments != 1 || s.Calls != 17*2+2 {
		t.Errorf("stats %+v", s)
	}
}

func TestRemoteSealsByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &remote{Store: local(t, t.TempDir())}
		log := open(t, st)
		failures := 0
		st.putting = func() error {
			if failures++; failures < 3 {
				return errors.New("the network is down")
			}
			return nil
		}
		want := remember(t, log, "p", 3)
		if n := names(t, st, "responses/"); len(n) != 0 {
			t.Errorf("at once there are %q", n)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		expect(t, log, "p", want)
		if failures == 0 {
			t.Error("nothing was put for 5 seconds")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := names(t, st, "responses/seg-"); len(n) != 1 {
			t.Errorf("after the failures there are %q", n)
		}
		expect(t, log, "p", want)
		if s := log.Stats(); s.Calls != 3 || s.Segments != 1 || s.Journals != 0 {
			t.Errorf("stats %+v", s)
		}
		// A crash now loses nothing.
		expect(t, open(t, st), "p", want)
	})
}

// noise does not compress.
type noise struct{ *speaker }

func (n noise) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	resp, err := n.speaker.Chat(ctx, req)
	text := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{byte(req.Seed)})
	_, _ = r.Read(text)
	for i := range resp.Answers {
		resp.Answers[i].Text = string(text)
	}
	return resp, err
}

func TestLargeLogsRotate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		st    store.Store
		total int
	}{{"local", unsynced(t, t.TempDir()), 12}, {"remote", &remote{Store: local(t, t.TempDir())}, 12}} {
		t.Run(tc.name, func(t *testing.T) {
			log := open(t, tc.st)
			inner := noise{newSpeaker()}
			chat := responselog.Chat(inner, log)
			var wg sync.WaitGroup
			for i := range tc.total {
				wg.Go(func() {
					for range 20 { // while the journal is sealed behind it
						if _, err := chat.Chat(t.Context(), request("p", int64(i), 1)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			deadline := time.Now().Add(10 * time.Second)
			for log.Stats().Segments == 0 && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
			}
			if s := log.Stats(); s.Segments != 1 || s.Journals != 1 || s.Calls != tc.total {
				t.Errorf("stats %+v", s)
			}
			for i := range tc.total {
				want, _ := inner.Chat(t.Context(), request("p", int64(i), 1))
				if got, usage := ask(t, chat, request("p", int64(i), 1)); usage.CacheHits != 1 || got[0] != want.Answers[0].Text {
					t.Errorf("answer %d after the rotation: %+v", i, usage)
				}
			}
		})
	}
}

func TestAStoreThatTakesNothing(t *testing.T) {
	down := errors.New("bucket is read-only")
	st := &remote{Store: local(t, t.TempDir()), putting: func() error { return down }}
	log, err := responselog.New(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	chat := responselog.Chat(noise{newSpeaker()}, log)
	var failed atomic.Bool
	for i := 0; i < 60 && !failed.Load(); i++ {
		if _, err := chat.Chat(t.Context(), request("p", int64(i), 1)); err != nil {
			if !errors.Is(err, down) || i < 30 {
				t.Fatalf("answer %d: %v", i, err)
			}
			failed.Store(true)
		}
	}
	if !failed.Load() {
		t.Error("60 MiB wait in memory and nobody is told")
	}
	if err := log.Close(); !errors.Is(err, down) {
		t.Errorf("Close hides that answers are lost: %v", err)
	}
}

func TestCallersWaitForASlowStore(t *testing.T) {
	release := make(chan struct{})
	st := &remote{Store: local(t, t.TempDir()), putting: func() error { <-release; return nil }}
	log := open(t, st)
	chat := responselog.Chat(noise{newSpeaker()}, log)
	var stored atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := chat.Chat(t.Context(), request("p", int64(i), 1)); err != nil {
				t.Error(err)
			}
			stored.Add(1)
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	for stored.Load() < 32 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	// The answer of one that gives up is kept all the same.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _ = chat.Chat(ctx, request("gave up", 1, 1))
	if n := stored.Load(); n > 33 {
		t.Errorf("%d MiB are in memory", n)
	}
	close(release)
	wg.Wait()
	if n := log.Stats().Calls; n != 51 {
		t.Errorf("%d answers are kept, want 51", n)
	}
}

// syncing is a local store whose first sync of a journal fails.
type syncing struct {
	quick
	syncs *atomic.Int64
}

func (s syncing) Append(ctx context.Context, name string) (store.AppendFile, error) {
	f, err := s.Appender.Append(ctx, name)
	return syncedFile{f, s.syncs}, err
}

type syncedFile struct {
	store.AppendFile
	syncs *atomic.Int64
}

func (f syncedFile) Sync() error {
	if f.syncs.Add(1) == 1 {
		return errors.New("input/output error")
	}
	return f.AppendFile.Sync()
}

func TestJournalsAreSyncedEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		log := open(t, syncing{unsynced(t, t.TempDir()).(quick), &syncs})
		for second, want := range []int64{0, 1, 2, 2, 3} {
			time.Sleep(time.Second)
			synctest.Wait()
			if got := syncs.Load(); got != want {
				t.Errorf("after %d s there were %d syncs, want %d", second+1, got, want)
			}
			if second == 0 || second == 3 {
				remember(t, log, fmt.Sprint("second", second), 1)
			}
		}
	})
}
