// Package responselog keeps every paid model answer, so that a rerun, a crash, a change downstream or
// a nightly refresh asks only what was never asked. Chat, Pictures and Scores wrap a model: they look
// an answer up, ask for what is missing, and store it before they return it.
//
// # Design
//
// What an answer is filed under. The key is the SHA-256 of the kind of request, the identity of the
// weights and everything that shapes the answer, each field preceded by its length; the number of
// answers N is not in it. For chat the seed is not in it either: answer i of a request is drawn with
// Seed+i, so an answer's address is (key, Seed+i). Requests for N = 2, 4 and 8 share their first
// answers, and asking for answers 2 to 7 alone, as Seed+2 and N = 6, names the same answers as asking
// for all eight. A picture's seed is in its key. The first answer stored at an address wins, by the
// time in its record; the later one of two processes that asked at once is kept until a merge but
// never read.
//
// How it is stored. A record is the answers of one call: a frame with a checksum, self-delimiting, so
// that a damaged one is skipped and asked again. Frames are compressed by S2: on judges' answers
// Zstandard saved 20 to 25% more for four to eight times the CPU. Where the store can append (a local
// disk), a record is one write to this process's own journal, so a kill loses none, and each second
// the journal is synced. Elsewhere records wait in memory until there are 8 MiB or 5 seconds of them.
// A journal becomes a segment: immutable, sorted by key, with an index at its end, named by its
// content. Open loads the indexes, seals the journals of processes that died, reads those of processes
// that live up to their present end, and merges small segments.
//
// Why two processes do not hurt each other. A journal belongs to who holds its lock. Segments are put
// only if absent under the hash of their content, and what was merged is deleted after the merged
// segment is durable: who loses a segment lists again and finds the records under another name.
//
// What it costs. In memory about 60 bytes a call, whatever the number of answers; no payload is
// cached; sealing holds two files of 8 MiB for a moment, merging two of 32. A lookup is one map access and one
// ranged read.
package responselog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptmill/promptmill/store"
)

// ErrClosed is the error of every use of a Log after Close.
var ErrClosed = errors.New("response log is closed")

// A Log holds the answers of one store. It is safe for concurrent use.
type Log struct {
	st      store.Store
	flights flights

	// mu guards the index and the files it points into.
	mu     sync.RWMutex
	index  index
	files  []*file
	closed bool

	refreshing sync.Mutex
	journals   journals

	stop    context.CancelFunc
	stopped chan struct{}

	hits, stored, damaged atomic.Int64
}

// Stats says what a Log holds and did.
type Stats struct {
	// Calls is the number of records: one per call whose answers are kept.
	Calls int
	// Segments and Journals are the files they lie in.
	Segments, Journals int
	// Hits counts answers served and Stored answers added since the log was opened, Damaged records
	// that did not read back and are asked again.
	Hits, Stored, Damaged int64
}

var opened struct {
	mu sync.Mutex
	// m has a log under its store's URL and under each spelling it was asked for by.
	m map[string]*Log
}

// Open returns the log in the store at url: one per process, whoever asks. Whoever runs the process
// closes it when the work is done; a DoFn that opens it in Setup does not.
func Open(ctx context.Context, url string) (*Log, error) {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if l, ok := opened.m[url]; ok {
		return l, nil
	}
	st, err := store.Open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("response log: %w", err)
	}
	l, ok := opened.m[st.URL()]
	if !ok {
		if l, err = New(ctx, st); err != nil {
			return nil, err
		}
	}
	if opened.m == nil {
		opened.m = map[string]*Log{}
	}
	opened.m[url], opened.m[st.URL()] = l, l
	return l, nil
}

// New opens the log in st for the caller alone; Open is for sharing one.
func New(ctx context.Context, st store.Store) (*Log, error) {
	l := &Log{st: st, stopped: make(chan struct{})}
	l.journals.wake = make(chan struct{}, 1)
	l.journals.sealed = make(chan struct{})
	if err := l.recover(ctx); err != nil {
		l.closeFiles()
		return nil, fmt.Errorf("open response log in %s: %w", st.URL(), err)
	}
	// The log outlives the call that opened it, not Close.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go l.run(background)
	return l, nil
}

// run syncs and seals journals until ctx is done.
func (l *Log) run(ctx context.Context) {
	defer close(l.stopped)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.journals.wake:
		case <-tick.C:
			l.syncJournal()
		}
		if err := l.sealFull(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("response log: not sealed, trying again", "store", l.st.URL(), "error", err)
		}
	}
}

// Close stores what is buffered and ends the log for everyone in the process; the next Open begins
// anew. An error means that answers still in memory were lost. Closing twice does nothing.
func (l *Log) Close() error {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()

	maps.DeleteFunc(opened.m, func(_ string, other *Log) bool { return other == l })
	l.stop()
	<-l.stopped
	// A bound for a store that does not answer: without it Ctrl-C would hang.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := l.sealAll(ctx)
	l.closeFiles()
	if err != nil {
		return fmt.Errorf("close response log in %s: %w", l.st.URL(), err)
	}
	return nil
}

// Stats returns the present counts.
func (l *Log) Stats() Stats {
	s := Stats{Hits: l.hits.Load(), Stored: l.stored.Load(), Damaged: l.damaged.Load()}
	l.mu.RLock()
	defer l.mu.RUnlock()
	s.Calls = l.index.records
	for _, f := range l.files {
		switch {
		case f.isGone():
		case f.journal:
			s.Journals++
		default:
			s.Segments++
		}
	}
	return s
}
