package transformtest

import (
	"reflect"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Deterministic checks of a step that asks a model that what comes out does not depend on the order of the elements, the number
// in flight, or what the response log holds. Once the log has all answers, again is how often the model is still asked,
// about what got none. Config C has the fields Cache, which is a folder yet to be made, and InFlight; calls counts what
// the model is asked.
func Deterministic[C, I, O any](t *testing.T, run func(C, []I) (Rows[O], error), cfg C, in []I, calls *atomic.Int64, again int64) {
	t.Helper()
	want, first := counted(t, run, cfg, in, calls)
	alone, reversed := with(cfg, "InFlight", 1), slices.Clone(in)
	slices.Reverse(reversed)
	for _, tt := range []struct {
		name  string
		cfg   C
		in    []I
		calls int64
		anew  bool
	}{
		{"from the log", cfg, in, again, false},
		{"from the log, one at a time, in reverse", alone, reversed, again, false},
		{"one at a time, in reverse", with(alone, "Cache", Cache(t)), reversed, first, true},
	} {
		want := want
		got, n := counted(t, run, tt.cfg, tt.in, calls)
		if n != tt.calls {
			t.Errorf("%s: %d calls, want %d", tt.name, n, tt.calls)
		}
		if !tt.anew { // what is in the log costs nothing
			want.Counts, got.Counts = want.Fates(), got.Fates()
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

// ExtraAttempts checks of a step that asks a model that one more attempt, in the field ExtraAttempts of C, brings back
// all that died, and that it takes no more than that many calls, which are counted in asked: the attempts before come
// from the response log. It returns what came out before and after.
func ExtraAttempts[C, I, O any](t *testing.T, run func(C, []I) (Rows[O], error), cfg C, in []I, asked *atomic.Int64, calls int64) (before, after Rows[O]) {
	t.Helper()
	before, _ = counted(t, run, cfg, in, asked)
	after, n := counted(t, run, with(cfg, "ExtraAttempts", 1), in, asked)
	if len(before.Rejected) == 0 || len(after.Rejected) != 0 {
		t.Errorf("dead before %+v, after %+v", before.Rejected, after.Rejected)
	}
	if n != calls {
		t.Errorf("%d calls, want %d", n, calls)
	}
	return before, after
}

// counted runs run and says how many calls that took.
func counted[C, I, O any](t *testing.T, run func(C, []I) (Rows[O], error), cfg C, in []I, calls *atomic.Int64) (Rows[O], int64) {
	t.Helper()
	before := calls.Load()
	got, err := run(cfg, in)
	if err != nil {
		t.Fatal(err)
	}
	return got, calls.Load() - before
}

// with returns cfg with another value of a field, its own or one of a struct that it embeds.
func with[C any](cfg C, field string, value any) C {
	reflect.ValueOf(&cfg).Elem().FieldByName(field).Set(reflect.ValueOf(value))
	return cfg
}
