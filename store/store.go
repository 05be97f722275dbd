// Package store keeps objects: immutable blobs, shards and manifests, and a few small pointers that
// move by compare-and-swap. The local backend is here; conformance of any backend is storetest.
//
// # Design
//
// Beam's file systems publish a partial file when a writer is closed after an error, truncate in
// place and cut names at '#' and '?'; hence this interface, small enough for a disk, Google Cloud
// Storage and S3 alike.
package store

import (
	"context"
	"errors"
	"io"
	"iter"
)

// Errors that a Store's errors wrap.
var (
	// ErrNotExist: no object of that name.
	ErrNotExist = errors.New("object does not exist")
	// ErrExists: PutIfAbsent or Create found an object with other content there.
	ErrExists = errors.New("object exists with other content")
	// ErrConflict: CompareAndSwap found another version than the one given.
	ErrConflict = errors.New("object was changed by another writer")
)

// A Version names one state of an object, opaque and comparable. "" means "no object".
type Version string

// Info describes an object in a listing.
type Info struct {
	Name string
	Size int64
}

// A Store holds objects under slash-separated names, relative to its root. Names are opaque: '#',
// '?' and spaces are ordinary; "..", empty segments and a leading slash are refused. A Store is safe
// for concurrent use by many processes.
type Store interface {
	// URL is the root as the user wrote it, made absolute.
	URL() string
	// PutIfAbsent publishes data under name at once or not at all. Where an object is there already
	// it succeeds if the content is equal (a lost answer of our own), else the error wraps ErrExists.
	PutIfAbsent(ctx context.Context, name string, data []byte) error
	// Create begins a large object: nothing is visible until Commit.
	Create(ctx context.Context, name string) (Writer, error)
	// Read returns an object's content and version.
	Read(ctx context.Context, name string) ([]byte, Version, error)
	// CompareAndSwap replaces the object only if its version is still old ("" to create it).
	CompareAndSwap(ctx context.Context, name string, old Version, data []byte) (Version, error)
	// Open gives ranged reads of an immutable object.
	Open(ctx context.Context, name string) (Object, error)
	// List yields objects whose name starts with prefix, in name order.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Delete removes an object; a missing one is no error.
	Delete(ctx context.Context, name string) error
	// Sync makes durable everything that was published before it: called once before a commit, so
	// that each of thousands of small pictures need not be.
	Sync(ctx context.Context) error
}

// A Writer receives the bytes of a new object.
type Writer interface {
	io.Writer
	// Commit publishes the object under the rules of PutIfAbsent (for content it compares length and SHA-256).
	Commit() error
	// Abort drops it; after Commit it does nothing.
	Abort()
}

// An Object is an immutable object open for reading.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// An AppendFile takes records that must survive the process: each Append is one write to the system.
type AppendFile interface {
	Append(record []byte) error
	// Sync makes the records durable against a crash of the machine.
	Sync() error
	Close() error
}

// An Appender is a Store that can append (a local disk). The response log uses it where it is there.
type Appender interface {
	// Append opens the new or existing file name for appending, exclusively: a second process gets an
	// error that wraps ErrConflict while the first lives, however it ends.
	Append(ctx context.Context, name string) (AppendFile, error)
}
