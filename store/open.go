package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// ErrScheme says: no backend for that kind of URL is linked in.
var ErrScheme = errors.New("no store for this kind of URL")

// An Opener opens the store at url, as the user wrote it, scheme included.
type Opener func(ctx context.Context, url string) (Store, error)

var schemes = struct {
	sync.RWMutex
	open map[string]Opener
}{open: map[string]Opener{"file": openFile}}

// Register makes URLs that begin with "scheme://" known to Open. It panics if the scheme is taken.
func Register(scheme string, open Opener) {
	schemes.Lock()
	defer schemes.Unlock()
	if _, dup := schemes.open[scheme]; dup {
		panic("store: scheme registered twice: " + scheme)
	}
	schemes.open[scheme] = open
}

// Open opens the store at url: a path, file:///path, or a URL of a registered scheme. Nothing is
// created before the first write, so a store that is only read may be missing or read-only.
func Open(ctx context.Context, url string) (Store, error) {
	scheme, _, ok := strings.Cut(url, "://")
	if !ok {
		return openLocal(url, url)
	}
	schemes.RLock()
	open, known := schemes.open[scheme], slices.Sorted(maps.Keys(schemes.open))
	schemes.RUnlock()
	if open == nil {
		// Only the scheme is named: a URL may carry what nobody should see in a log.
		return nil, fmt.Errorf("store: %s://: %w: it is not built in yet; use a folder or one of %s://",
			scheme, ErrScheme, strings.Join(known, "://, "))
	}
	return open(ctx, url)
}

// openFile takes file:///path and file://localhost/path; '#' and '?' are part of the path.
func openFile(_ context.Context, raw string) (Store, error) {
	host, dir, ok := strings.Cut(strings.TrimPrefix(raw, "file://"), "/")
	if !ok || host != "" && host != "localhost" {
		return nil, fmt.Errorf("store: %s: a file URL has three slashes and an absolute path, as in file:///data/out", raw)
	}
	dir, err := url.PathUnescape("/" + dir)
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w; write a percent sign as %%25", raw, err)
	}
	return openLocal(raw, dir)
}
