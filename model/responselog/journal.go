package responselog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promptmill/promptmill/store"
)

const (
	// A journal is sealed at this size: it is held in memory then, so a small one keeps memory flat.
	journalBytes = 8 << 20
	// One in memory is sealed at this age too, which leaves a second for the put, as it is looked at
	// each second.
	memoryAge = 4 * time.Second
	// Above this much unsealed memory callers wait for the store.
	maxMemory = 4 * journalBytes
)

// journals are the files that this process writes.
type journals struct {
	mu     sync.Mutex
	active *journal // nil until the first record
	// full are to be sealed, oldest first, by the background goroutine or, after it, by Close.
	full []*journal
	// memory is what waits in memory, in bytes.
	memory int
	// err is how the last try to seal ended; sealed is closed, and replaced, after each.
	err    error
	sealed chan struct{}
	wake   chan struct{}
}

// A journal takes records as they come. It is a file on disk or bytes in memory.
type journal struct {
	file    *file
	number  uint32 // of file
	size    int
	records int
	born    time.Time
	dirty   bool // not synced
	// disk is nil for a journal in memory.
	disk   store.AppendFile
	memory *memory
}

// memory is a growing file in memory.
type memory struct {
	mu   sync.RWMutex
	data []byte
}

func (m *memory) Append(p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append(m.data, p...)
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := copy(p, m.data[min(off, int64(len(m.data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// append stores the answers of one call, at positions first to first+n-1 of k. If the store can append,
// a kill of the process after that loses none of them.
func (l *Log) append(ctx context.Context, k key, first uint32, n int, payload []byte) error {
	r := record{key: k, stored: time.Now().UnixNano(), first: first, n: uint16(n), payload: payload}
	frame, err := newFrame(r)
	if err != nil {
		return fmt.Errorf("response log: %w", err)
	}
	js := &l.journals
	js.mu.Lock()
	defer js.mu.Unlock()
	if err := l.awaitRoom(ctx); err != nil {
		return err
	}
	// The answer is paid: that its caller gave up meanwhile is no reason to lose it.
	j, err := l.journalFor(context.WithoutCancel(ctx), len(frame))
	if err != nil {
		return err
	}
	if j.disk == nil {
		j.memory.Append(frame)
		js.memory += len(frame)
	} else if err := j.disk.Append(frame); err != nil {
		l.rotate() // where the file ends now is not known
		return fmt.Errorf("response log: keep an answer: %w", err)
	}
	e := entry{
		stored: r.stored, offset: uint32(j.size), size: uint32(len(frame)), first: r.first, n: r.n, file: j.number,
	}
	j.size += len(frame)
	j.records++
	j.dirty = true
	l.mu.Lock()
	l.index.add(k.prefix(), e)
	l.mu.Unlock()
	l.stored.Add(int64(n))
	return nil
}

// awaitRoom waits until the store has taken enough of what is in memory.
func (l *Log) awaitRoom(ctx context.Context) error {
	js := &l.journals
	for js.memory >= maxMemory && ctx.Err() == nil && !l.isClosed() {
		if js.err != nil {
			return fmt.Errorf("response log: an answer cannot be kept, %d MiB wait in memory: %w", js.memory>>20, js.err)
		}
		sealed := js.sealed
		js.mu.Unlock()
		select {
		case <-sealed:
		case <-ctx.Done():
		case <-l.stopped:
		}
		js.mu.Lock()
	}
	if l.isClosed() {
		return ErrClosed
	}
	return nil
}

func (l *Log) isClosed() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.closed
}

// journalFor returns a journal with room for size bytes.
func (l *Log) journalFor(ctx context.Context, size int) (*journal, error) {
	js := &l.journals
	if js.active != nil {
		if js.active.size+size <= journalBytes {
			return js.active, nil
		}
		l.rotate()
	}
	j := &journal{born: time.Now()}
	if app, ok := l.st.(store.Appender); ok {
		name := journalName()
		disk, err := app.Append(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("response log: begin a journal: %w", err)
		}
		r, err := l.st.Open(ctx, name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("response log: begin a journal: %w", err), disk.Close())
		}
		j.disk, j.file = disk, &file{name: name, journal: true, r: r}
	} else {
		j.memory = &memory{}
		j.file = &file{name: "memory", journal: true, r: j.memory}
	}
	j.number = l.attach(j.file, nil)
	js.active = j
	return j, nil
}

// rotate hands the active journal to the background goroutine.
func (l *Log) rotate() {
	js := &l.journals
	if js.active == nil {
		return
	}
	js.full = append(js.full, js.active)
	js.active = nil
	select {
	case js.wake <- struct{}{}:
	default:
	}
}

// journalName is unique; host and process are for people who look into the folder.
func journalName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, host)
	return fmt.Sprintf("%s%s-%d-%s", journalPrefix, host, os.Getpid(), strings.ToLower(rand.Text()[:12]))
}

// syncJournal makes the active journal durable against a crash of the machine.
func (l *Log) syncJournal() {
	js := &l.journals
	js.mu.Lock()
	j := js.active
	due := j != nil && j.disk != nil && j.dirty
	if due {
		j.dirty = false
	}
	js.mu.Unlock()
	if !due {
		return
	}
	if err := j.disk.Sync(); err != nil {
		slog.Warn("response log: journal not synced, trying again", "journal", j.file.name, "error", err)
		js.mu.Lock()
		j.dirty = true
		js.mu.Unlock()
	}
}

// sealFull seals the journals that are full or, in memory, old.
func (l *Log) sealFull(ctx context.Context) error {
	js := &l.journals
	js.mu.Lock()
	if j := js.active; j != nil && j.disk == nil && time.Since(j.born) >= memoryAge {
		l.rotate()
	}
	full := slices.Clone(js.full)
	js.mu.Unlock()
	if len(full) == 0 {
		return nil
	}
	var errs []error
	for _, j := range full {
		err := l.seal(ctx, j)
		errs = append(errs, err)
		if err != nil {
			continue
		}
		js.mu.Lock()
		js.full = slices.DeleteFunc(js.full, func(other *journal) bool { return other == j })
		if j.disk == nil {
			js.memory -= j.size
		}
		js.mu.Unlock()
	}
	js.mu.Lock()
	defer js.mu.Unlock()
	js.err = errors.Join(errs...)
	close(js.sealed)
	js.sealed = make(chan struct{})
	return js.err
}

// sealAll seals everything. It is called once the background goroutine has ended.
func (l *Log) sealAll(ctx context.Context) error {
	l.journals.mu.Lock()
	l.rotate()
	l.journals.mu.Unlock()
	return l.sealFull(ctx)
}

// seal makes a segment of j, leads the index to it and removes j.
func (l *Log) seal(ctx context.Context, j *journal) error {
	data := make([]byte, j.size)
	if err := readFull(j.file.r, data, 0); err != nil {
		return fmt.Errorf("seal %s: %w", j.file.name, err)
	}
	frames, _, _ := scan(data)
	var segment *file
	var kept []framed
	var records []located
	if len(frames) > 0 {
		var name string
		var err error
		if name, kept, records, err = putSegment(ctx, l.st, frames); err != nil {
			return fmt.Errorf("seal %s: %w", j.file.name, err)
		}
		r, err := l.st.Open(ctx, name)
		if err != nil {
			return fmt.Errorf("seal %s: %w", j.file.name, err)
		}
		segment = &file{name: name, r: r}
	}
	l.mu.Lock()
	number := uint32(len(l.files))
	if segment != nil {
		l.files = append(l.files, segment)
	}
	for i, f := range kept {
		l.index.move(f.key.prefix(), entry{file: j.number, offset: uint32(f.offset), first: f.first, n: f.n}, number, records[i].offset)
	}
	if len(kept) < j.records { // damaged since they were written
		l.index.dropFile(j.number)
	}
	l.mu.Unlock()
	j.file.leave()
	if j.disk == nil {
		j.memory.data = nil
		return nil
	}
	// Deleted before the lock goes, so that nobody takes it over. If that fails, the next Open does.
	if err := errors.Join(l.st.Delete(ctx, j.file.name), j.disk.Close()); err != nil {
		slog.Warn("response log: a sealed journal stays behind", "journal", j.file.name, "error", err)
	}
	return nil
}
