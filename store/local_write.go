package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

func (l *local) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	w, err := l.newWriter(ctx, "put", name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit()
}

func (l *local) Create(ctx context.Context, name string) (Writer, error) {
	w, err := l.newWriter(ctx, "create", name)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// A localWriter fills the temporary file of one object.
type localWriter struct {
	ctx            context.Context
	l              *local
	root           *folder
	op, name, temp string
	f              *os.File // nil once the writer is done
	err            error
}

func (l *local) newWriter(ctx context.Context, op, name string) (*localWriter, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return nil, fmt.Errorf("store: %s: %w", op, err)
	}
	root, err := l.create()
	if err != nil {
		return nil, l.explain(op, name, err)
	}
	temp := path.Join(tempDir, rand.Text())
	f, err := root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if err != nil {
		return nil, l.explain(op, name, err)
	}
	return &localWriter{ctx: ctx, l: l, root: root, op: op, name: name, temp: temp, f: f}, nil
}

func (w *localWriter) Write(p []byte) (int, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	n, err := w.f.Write(p)
	if err != nil {
		w.err = w.l.explain(w.op, w.name, err)
		w.Abort()
	}
	return n, w.err
}

func (w *localWriter) check() error {
	switch {
	case w.err != nil:
		return w.err
	case w.f == nil:
		return fmt.Errorf("store: %s %q: the writer is closed", w.op, w.name)
	case w.ctx.Err() != nil:
		return fmt.Errorf("store: %s %q: %w", w.op, w.name, w.ctx.Err())
	}
	return nil
}

func (w *localWriter) Commit() error {
	if err := w.check(); err != nil {
		return err
	}
	defer w.Abort()
	err := inFolders(w.root, w.name, func() error {
		err := w.root.Link(w.temp, w.name)
		if errors.Is(err, fs.ErrExist) {
			return w.compare()
		}
		return err
	})
	if err != nil {
		return w.l.explain(w.op, w.name, err)
	}
	return nil
}

// Abort drops the temporary file; after a Commit that is all there is left to drop.
func (w *localWriter) Abort() {
	if w.f == nil {
		return
	}
	// Neither failure hurts: nothing names the file, and what stays is swept in a day.
	_ = w.f.Close()
	_ = w.root.Remove(w.temp)
	w.f = nil
}

// compare settles a name that is taken: equal content is an earlier try whose answer was lost.
func (w *localWriter) compare() error {
	there, err := w.root.Open(w.name)
	if err != nil {
		return err
	}
	defer there.Close()
	if _, err := w.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	same, err := equal(there, w.f)
	if err == nil && !same {
		err = ErrExists
	}
	return err
}

func equal(a, b *os.File) (bool, error) {
	ai, aerr := a.Stat()
	bi, berr := b.Stat()
	if err := errors.Join(aerr, berr); err != nil || ai.Size() != bi.Size() && !ai.IsDir() {
		return false, err
	}
	abuf, bbuf := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, aerr := io.ReadFull(a, abuf)
		m, berr := io.ReadFull(b, bbuf)
		if !bytes.Equal(abuf[:n], bbuf[:m]) {
			return false, nil
		}
		for _, err := range []error{aerr, berr} {
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return true, nil
			case err != nil:
				return false, err
			}
		}
	}
}

// inFolders calls do, which gives a file the name, and makes the folders above it that are missing. A
// Delete may take away a folder that it left empty between the two, or the file that do looks at, so it
// tries again.
func inFolders(root *folder, name string, do func() error) error {
	for try := 0; ; try++ {
		err := do()
		if !errors.Is(err, fs.ErrNotExist) || try == 100 {
			return err
		}
		// MkdirAll says ErrExist of a folder that is deleted while it looks whether it is one.
		err = root.MkdirAll(path.Dir(name), 0o777)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}
