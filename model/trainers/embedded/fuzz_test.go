package embedded_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// FuzzLoad gives every body the digest that fits, which chance would not.
func FuzzLoad(f *testing.F) {
	needLibrary(f)
	m := &onnxfile.Model{Graph: &onnxfile.Graph{Initializers: []*onnxfile.Tensor{onnxfile.NewFloat32("w", []int64{2}, []float32{1, 2})}}}
	p, err := embedded.NewParams(nil, m)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(p.Close)
	path := filepath.Join(f.TempDir(), "checkpoint")
	if err := p.Save(path); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-sha256.Size])
	f.Add([]byte("promptmill checkpoint 1\n\xff\xff\xff\xff{}"))
	f.Add([]byte(`promptmill checkpoint 1` + "\n\x5b\x00\x00\x00" + `{"steps":1,"average":true,"weights":[{"name":"w","dims":[2],"steps":1}]}                    `))
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		at := filepath.Join(t.TempDir(), "c")
		if err := os.WriteFile(at, append(body, sum[:]...), 0o600); err != nil {
			t.Fatal(err)
		}
		before := p.Steps()
		if err := p.Load(at); err != nil && (!errors.Is(err, embedded.ErrCheckpoint) || p.Steps() != before) {
			t.Fatalf("not said to be the checkpoint's fault, or loaded in part: %v", err)
		}
	})
}
