package storetest

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/promptmill/promptmill/store"
)

var faulties atomic.Int64

// Faulty returns a store that fails when fail says so, with the error that it returns. fail is asked
// twice for each request, with the object's name ("" for sync, the prefix for list): before the request
// is made, as one of
//
//	put create write commit read cas open read_at list delete sync append append_write append_sync
//
// and after it succeeded, with ".answer" added: then the request was carried out but its answer is lost.
// fail is called from any goroutine. Iterating a list and reading at an offset have no lost answer.
//
// The store can append if inner can. Its URL opens it again in this process, so it can be handed to a
// graph as the place to write to.
func Faulty(inner store.Store, fail func(op, name string) error) store.Store {
	f := faulty{inner: inner, fail: fail}
	scheme := fmt.Sprintf("faulty-%d", faulties.Add(1))
	f.url = scheme + "://store"
	var s store.Store = f
	if a, ok := inner.(store.Appender); ok {
		s = faultyAppender{f, a}
	}
	store.Register(scheme, func(context.Context, string) (store.Store, error) { return s, nil })
	return s
}

type faulty struct {
	inner store.Store
	url   string
	fail  func(op, name string) error
}

// do makes a request between the two questions.
func (f faulty) do(op, name string, request func() error) error {
	if err := f.fail(op, name); err != nil {
		return err
	}
	if err := request(); err != nil {
		return err
	}
	return f.fail(op+".answer", name)
}

func (f faulty) URL() string { return f.url }

func (f faulty) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return f.do("put", name, func() error { return f.inner.PutIfAbsent(ctx, name, data) })
}

func (f faulty) Read(ctx context.Context, name string) (data []byte, v store.Version, err error) {
	err = f.do("read", name, func() (err error) {
		data, v, err = f.inner.Read(ctx, name)
		return err
	})
	return data, v, err
}

func (f faulty) CompareAndSwap(ctx context.Context, name string, old store.Version, data []byte) (v store.Version, err error) {
	err = f.do("cas", name, func() (err error) {
		v, err = f.inner.CompareAndSwap(ctx, name, old, data)
		return err
	})
	return v, err
}

func (f faulty) Delete(ctx context.Context, name string) error {
	return f.do("delete", name, func() error { return f.inner.Delete(ctx, name) })
}

func (f faulty) Sync(ctx context.Context) error {
	return f.do("sync", "", func() error { return f.inner.Sync(ctx) })
}

func (f faulty) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	if err := f.fail("list", prefix); err != nil {
		return func(yield func(store.Info, error) bool) { yield(store.Info{}, err) }
	}
	return f.inner.List(ctx, prefix)
}

func (f faulty) Open(ctx context.Context, name string) (store.Object, error) {
	var o store.Object
	err := f.do("open", name, func() (err error) {
		o, err = f.inner.Open(ctx, name)
		return err
	})
	if err != nil {
		if o != nil {
			_ = o.Close()
		}
		return nil, err
	}
	return faultyObject{o, f, name}, nil
}

type faultyObject struct {
	store.Object
	f    faulty
	name string
}

func (o faultyObject) ReadAt(p []byte, off int64) (int, error) {
	if err := o.f.fail("read_at", o.name); err != nil {
		return 0, err
	}
	return o.Object.ReadAt(p, off)
}

func (f faulty) Create(ctx context.Context, name string) (store.Writer, error) {
	var w store.Writer
	err := f.do("create", name, func() (err error) {
		w, err = f.inner.Create(ctx, name)
		return err
	})
	if err != nil {
		if w != nil {
			w.Abort()
		}
		return nil, err
	}
	return &faultyWriter{w, f, name, nil}, nil
}

type faultyWriter struct {
	store.Writer
	f    faulty
	name string
	err  error // of a write: as on a real disk, no Commit mends it
}

func (w *faultyWriter) Write(p []byte) (n int, err error) {
	if w.err == nil {
		w.err = w.f.do("write", w.name, func() (err error) {
			n, err = w.Writer.Write(p)
			return err
		})
	}
	return n, w.err
}

func (w *faultyWriter) Commit() error {
	if w.err != nil {
		return w.err
	}
	return w.f.do("commit", w.name, w.Writer.Commit)
}

type faultyAppender struct {
	faulty
	appender store.Appender
}

func (f faultyAppender) Append(ctx context.Context, name string) (store.AppendFile, error) {
	var a store.AppendFile
	err := f.do("append", name, func() (err error) {
		a, err = f.appender.Append(ctx, name)
		return err
	})
	if err != nil {
		if a != nil {
			_ = a.Close()
		}
		return nil, err
	}
	return faultyAppendFile{a, f.faulty, name}, nil
}

type faultyAppendFile struct {
	store.AppendFile
	f    faulty
	name string
}

func (a faultyAppendFile) Append(record []byte) error {
	return a.f.do("append_write", a.name, func() error { return a.AppendFile.Append(record) })
}

func (a faultyAppendFile) Sync() error {
	return a.f.do("append_sync", a.name, a.AppendFile.Sync)
}
