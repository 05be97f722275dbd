package storetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/store"
)

func testAppend(t *testing.T, s store.Store) {
	a, ok := s.(store.Appender)
	if !ok {
		t.Skip("the store does not append")
	}
	other := again(t, s).(store.Appender)
	ctx := t.Context()
	f, err := a.Append(ctx, "log/one")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []store.Appender{a, other} {
		_, err = from.Append(ctx, "log/one")
		wantError(t, "append twice", err, store.ErrConflict)
	}
	for _, r := range []string{"a\n", "", "bc\n"} {
		if err := f.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	wantContent(t, s, "log/one", "a\nbc\n")
	wantNames(t, s, "log/", "log/one")
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := f.Append([]byte("late")); err == nil {
		t.Error("append after Close succeeded")
	}
	f, err = other.Append(ctx, "log/one")
	if err != nil {
		t.Fatalf("append after the first writer closed: %v", err)
	}
	defer f.Close()
	if err := f.Append([]byte("d\n")); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "log/one", "a\nbc\nd\n")
	for _, n := range []string{"", "../x", "/x"} {
		_, err := a.Append(ctx, n)
		wantError(t, "append "+n, err, store.ErrName)
	}
	race(t, s, 20, store.ErrConflict, func(s store.Store, i int) error {
		f, err := s.(store.Appender).Append(ctx, "log/race")
		if err != nil {
			return err
		}
		return errors.Join(f.Append([]byte(strconv.Itoa(i))), f.Close(), s.Delete(ctx, "log/race"))
	})
}

const childEnv = "PROMPTMILL_STORETEST_CHILD"

// runChild is the life of the child that testKilled starts: it appends, increments a counter and puts
// objects, prints the number of each round once it is done, and never ends by itself.
func runChild(ctx context.Context) bool {
	url := os.Getenv(childEnv)
	if url == "" {
		return false
	}
	err := func() error {
		s, err := store.Open(ctx, url)
		if err != nil {
			return err
		}
		f, err := s.(store.Appender).Append(ctx, "log")
		if err != nil {
			return err
		}
		for i := 1; ; i++ {
			if err := errors.Join(
				f.Append(record(i)),
				increment(ctx, s, "count"),
				s.PutIfAbsent(ctx, fmt.Sprintf("object/%d", i), record(i)),
			); err != nil {
				return err
			}
			fmt.Println("done", i)
		}
	}()
	fmt.Println("failed", err)
	os.Exit(1)
	return true
}

func record(i int) []byte { return []byte(strings.Repeat(strconv.Itoa(i)+" ", 3000) + "\n") }

// testKilled kills a process amid its writes: what it had done is there, what it was doing is there
// whole or not at all, and its locks are free.
func testKilled(t *testing.T, s store.Store) {
	if _, ok := s.(store.Appender); !ok {
		t.Skip("the store does not append: it is not on this machine")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	top, _, _ := strings.Cut(t.Name(), "/")
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+regexp.QuoteMeta(top)+"$")
	child.Env = append(os.Environ(), childEnv+"="+s.URL())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "done 50" {
		if strings.HasPrefix(lines.Text(), "failed") {
			t.Error(lines.Text())
		}
	}
	_, err = s.(store.Appender).Append(ctx, "log")
	wantError(t, "append beside a living process", err, store.ErrConflict)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	done := 50
	for lines.Scan() { // also what the scanner had read ahead
		done++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed

	f, err := s.(store.Appender).Append(ctx, "log")
	if err != nil {
		t.Fatalf("the dead process still holds the log: %v", err)
	}
	defer f.Close()
	if err := increment(ctx, s, "count"); err != nil {
		t.Fatalf("the dead process still holds the counter: %v", err)
	}
	log, _, err := s.Read(ctx, "log")
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= done; i++ {
		var ok bool
		if log, ok = bytes.CutPrefix(log, record(i)); !ok {
			t.Fatalf("record %d of %d is not whole", i, done)
		}
		wantContent(t, s, fmt.Sprintf("object/%d", i), string(record(i)))
	}
	if !bytes.HasPrefix(record(done+1), log) && !bytes.HasPrefix(log, record(done+1)) {
		t.Error("after the acknowledged records comes something else than the next")
	}
	count, _, err := s.Read(ctx, "count")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(string(count)); err != nil || n < done+1 || n > done+2 {
		t.Errorf("counter is %s after %d increments and ours", count, done)
	}
	for info, err := range s.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != "log" && info.Name != "count" && !strings.HasPrefix(info.Name, "object/") {
			t.Errorf("the dead process left %s", info.Name)
		}
	}
}
