// Package onnxtest is for tests that run graphs.
package onnxtest

import (
	"errors"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
)

// NeedLibrary starts ONNX Runtime, or skips the test where the machine has none.
func NeedLibrary(tb testing.TB) {
	tb.Helper()
	if err := onnx.Start(); errors.Is(err, onnx.ErrLibrary) {
		tb.Skipf("not executed: %v", err)
	} else if err != nil {
		tb.Fatal(err)
	}
}
