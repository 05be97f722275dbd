package responselog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/promptmill/promptmill/store"
)

// errMoved: the file is no longer read; its records are in a segment, or lost.
var errMoved = errors.New("records have moved")

// A file holds records: a segment, a journal on disk, or a journal in memory.
type file struct {
	name    string
	journal bool

	// mu is held for reading while a record is read, so that a file is not closed under a reader.
	mu   sync.RWMutex
	r    io.ReaderAt
	gone bool
}

func (f *file) read(e entry) ([]byte, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.gone {
		return nil, errMoved
	}
	data := make([]byte, e.size)
	return data, readFull(f.r, data, int64(e.offset))
}

func (f *file) isGone() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.gone
}

// leave waits for the readers and closes the file.
func (f *file) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.r.(io.Closer); ok && !f.gone {
		_ = c.Close() // it was only read
	}
	f.gone, f.r = true, nil
}

// attach makes the records of f findable.
func (l *Log) attach(f *file, records []located) (number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number = uint32(len(l.files))
	l.files = append(l.files, f)
	for _, r := range records {
		r.file = number
		l.index.add(r.prefix, r.entry)
	}
	return number
}

func (l *Log) closeFiles() {
	l.mu.RLock()
	files := l.files
	l.mu.RUnlock()
	for _, f := range files {
		f.leave()
	}
}

// read calls use with the records that hold any of the positions first to first+n-1 of k, the first
// stored first, until use is done. A record that use finds damaged, or that does not read back, is
// forgotten: its answers will be asked again.
func (l *Log) read(ctx context.Context, k key, first uint32, n int, use func(record) (done bool, err error)) error {
	var room [4]entry
	for {
		l.mu.RLock()
		closed := l.closed
		found := l.index.find(room[:0], k.prefix(), first, n)
		l.mu.RUnlock()
		if closed {
			return ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		again, err := l.readEach(ctx, k, found, use)
		if err != nil || !again {
			return err
		}
	}
}

// readEach says again when the records have to be looked up once more.
func (l *Log) readEach(ctx context.Context, k key, found []entry, use func(record) (bool, error)) (again bool, err error) {
	for _, e := range found {
		l.mu.RLock()
		f := l.files[e.file]
		l.mu.RUnlock()
		data, err := f.read(e)
		var r record
		if err == nil {
			r, err = parseFrame(data)
		}
		done := false
		switch {
		case err != nil:
		case r.key != k: // of equal prefix
			continue
		case r.first != e.first || r.n != e.n:
			err = errDamaged
		default:
			done, err = use(r)
		}
		switch {
		case err == nil && done:
			return false, nil
		case err == nil:
		case errors.Is(err, errDamaged):
			l.damaged.Add(1)
			slog.Warn("response log: damaged record, its answers will be asked again", "file", f.name, "offset", e.offset)
			l.mu.Lock()
			l.index.drop(k.prefix(), e)
			l.mu.Unlock()
		case errors.Is(err, errMoved):
			return true, nil
		case errors.Is(err, store.ErrNotExist):
			if err := l.relist(ctx, f); err != nil {
				return false, err
			}
			return true, nil
		default:
			return false, fmt.Errorf("response log: read record in %s: %w", f.name, err)
		}
	}
	return false, nil
}

// relist is called when lost is not there any more: another process merged it. Its records are found
// in segments that this log has not seen.
func (l *Log) relist(ctx context.Context, lost *file) error {
	l.refreshing.Lock()
	defer l.refreshing.Unlock()
	if lost.isGone() {
		return nil
	}
	if err := l.loadSegments(ctx); err != nil {
		return fmt.Errorf("response log: list again after losing %s: %w", lost.name, err)
	}
	l.mu.Lock()
	l.index.dropFile(uint32(slices.Index(l.files, lost)))
	l.mu.Unlock()
	lost.leave()
	return nil
}
