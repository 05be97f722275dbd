package responselog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/store"
)

const (
	// More small segments than this are merged by Open.
	maxSmall   = 16
	smallBytes = fileBytes / 2
	// loading is how many indexes are read at once.
	loading = 8
)

// recover finds everything that was stored. The journals come first: whatever becomes of one
// meanwhile, its records are in a segment that is listed after it.
func (l *Log) recover(ctx context.Context) error {
	var names []string
	for info, err := range l.st.List(ctx, journalPrefix) {
		if err != nil {
			return err
		}
		names = append(names, info.Name)
	}
	for _, name := range names {
		if err := l.takeOver(ctx, name); err != nil {
			return fmt.Errorf("take over %s: %w", name, err)
		}
	}
	if err := l.merge(ctx); err != nil {
		return fmt.Errorf("merge segments: %w", err)
	}
	return l.loadSegments(ctx)
}

// takeOver seals the journal of a process that died, and reads that of one that lives.
func (l *Log) takeOver(ctx context.Context, name string) error {
	app, ok := l.st.(store.Appender)
	if !ok {
		return l.attachJournal(ctx, name)
	}
	lock, err := app.Append(ctx, name)
	if errors.Is(err, store.ErrConflict) {
		return l.attachJournal(ctx, name)
	}
	if err != nil {
		return err
	}
	return errors.Join(l.sealDead(ctx, name), lock.Close())
}

func (l *Log) sealDead(ctx context.Context, name string) error {
	data, _, err := l.st.Read(ctx, name)
	if err != nil {
		return err
	}
	frames, damaged, torn := scan(data)
	l.warn(name, damaged)
	if torn > 0 {
		slog.Info("response log: a journal ends in a record that was never finished", "journal", name, "bytes", torn)
	}
	if len(frames) > 0 {
		if _, _, _, err := putSegment(ctx, l.st, frames); err != nil {
			return err
		}
	}
	return l.st.Delete(ctx, name)
}

// attachJournal makes what is in a living process's journal findable.
func (l *Log) attachJournal(ctx context.Context, name string) error {
	r, err := l.st.Open(ctx, name)
	if errors.Is(err, store.ErrNotExist) {
		return nil // sealed since it was listed
	}
	if err != nil {
		return err
	}
	data, _, err := l.st.Read(ctx, name)
	if err != nil {
		_ = r.Close()
		if errors.Is(err, store.ErrNotExist) {
			return nil
		}
		return err
	}
	frames, damaged, _ := scan(data)
	l.warn(name, damaged)
	l.attach(&file{name: name, journal: true, r: r}, locate(frames))
	return nil
}

func (l *Log) warn(name string, damaged int) {
	if damaged > 0 {
		l.damaged.Add(int64(damaged))
		slog.Warn("response log: damaged records, their answers will be asked again", "file", name, "places", damaged)
	}
}

// segments lists them.
func (l *Log) segments(ctx context.Context) ([]store.Info, error) {
	var infos []store.Info
	for info, err := range l.st.List(ctx, segmentPrefix) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// merge makes few segments of many small ones.
func (l *Log) merge(ctx context.Context) error {
	infos, err := l.segments(ctx)
	if err != nil {
		return err
	}
	var groups [][]string
	small, size := 0, int64(0)
	for _, info := range infos {
		if info.Size >= smallBytes {
			continue
		}
		if small == 0 || size+info.Size > fileBytes {
			groups, size = append(groups, nil), 0
		}
		small++
		size += info.Size
		last := &groups[len(groups)-1]
		*last = append(*last, info.Name)
	}
	if small <= maxSmall {
		return nil
	}
	for _, names := range groups {
		err := l.mergeGroup(ctx, names)
		if errors.Is(err, store.ErrNotExist) {
			return nil // another process merges them
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) mergeGroup(ctx context.Context, names []string) error {
	var frames []framed
	for _, name := range names {
		data, _, err := l.st.Read(ctx, name)
		if err != nil {
			return err
		}
		found, damaged := segmentFrames(data)
		l.warn(name, damaged)
		frames = append(frames, found...)
	}
	merged, _, _, err := putSegment(ctx, l.st, frames)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == merged {
			continue
		}
		if err := l.st.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// loadSegments makes the records of all segments findable that are not so yet.
func (l *Log) loadSegments(ctx context.Context) error {
	for try := 0; ; try++ {
		infos, err := l.segments(ctx)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		l.mu.RLock()
		for _, f := range l.files {
			known[f.name] = !f.isGone()
		}
		l.mu.RUnlock()
		var g errgroup.Group
		g.SetLimit(loading)
		for _, info := range infos {
			if !known[info.Name] {
				g.Go(func() error { return l.loadSegment(ctx, info.Name) })
			}
		}
		if err := g.Wait(); !errors.Is(err, store.ErrNotExist) || try == 10 {
			return err
		}
		// Merged by another process since it was listed.
	}
}

func (l *Log) loadSegment(ctx context.Context, name string) error {
	r, err := l.st.Open(ctx, name)
	if err != nil {
		return err
	}
	records, err := readIndex(r, r.Size())
	if errors.Is(err, errDamaged) {
		slog.Warn("response log: a segment's index is damaged, its records are read one by one", "segment", name, "error", err)
		var data []byte
		if data, _, err = l.st.Read(ctx, name); err == nil {
			frames, damaged := segmentFrames(data)
			l.warn(name, damaged)
			records = locate(frames)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("load %s: %w", strings.TrimPrefix(name, dir), err), r.Close())
	}
	l.attach(&file{name: name, r: r}, records)
	return nil
}
