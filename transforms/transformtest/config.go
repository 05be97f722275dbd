package transformtest

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// RoundTrip checks that a Config reaches a worker as it was: cfg, a valid struct with every field set,
// survives JSON.
func RoundTrip[T interface{ Validate() error }](t testing.TB, cfg T) {
	t.Helper()
	for _, f := range reflect.VisibleFields(reflect.TypeOf(cfg)) { // those of embedded structs too
		if reflect.ValueOf(cfg).FieldByIndex(f.Index).IsZero() {
			t.Errorf("field %s is not set", f.Name)
		}
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(cfg, back); d != "" {
		t.Error(d)
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}
