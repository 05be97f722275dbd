package train_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/tiny/train"
)

var (
	update = flag.Bool("update", false, "write the losses that are measured to testdata")
	full   = flag.Bool("full", false, "train steps of full size, too: a minute")
)

// tolerance is for CPUs of other types, whose sums differ in their last bits: a run amplifies them.
const tolerance = 5e-3

// compareLosses trains as small says and, with -full, as whole does, and compares the losses by phase with those in a file of
// testdata; with -update it writes them there.
func compareLosses[C any](t *testing.T, file string, small, whole C, run func(C, func(train.Phase, int64, float64)) error) {
	t.Helper()
	onnxtest.NeedLibrary(t)
	type losses map[train.Phase][]float64
	path := filepath.Join("testdata", file)
	want := map[string]losses{}
	if data, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
	} else if !*update {
		t.Fatal(err)
	}
	for name, c := range map[string]C{"small": small, "full": whole} {
		if name == "full" && !*full {
			continue
		}
		got := losses{}
		err := run(c, func(p train.Phase, _ int64, loss float64) {
			got[p] = append(got[p], math.Round(loss*1e6)/1e6)
		})
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			want[name] = got
			continue
		}
		near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= tolerance*math.Abs(b) })
		if d := cmp.Diff(want[name], got, near); d != "" {
			t.Errorf("%s: the losses differ from testdata's: %s", name, d)
		}
	}
	if *update {
		data, err := json.MarshalIndent(want, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sameFiles compares files of the folder that a run in one piece wrote with those of an interrupted one.
func sameFiles(t *testing.T, one, pieces string, names ...string) {
	t.Helper()
	for _, name := range names {
		a, errOne := os.ReadFile(filepath.Join(one, filepath.FromSlash(name)))
		b, errPieces := os.ReadFile(filepath.Join(pieces, filepath.FromSlash(name)))
		if err := errors.Join(errOne, errPieces); err != nil {
			t.Error(err)
		} else if !bytes.Equal(a, b) {
			t.Errorf("%s is another after interruptions", filepath.Join(filepath.Base(pieces), name))
		}
	}
}
