// Package modeltest checks that a backend keeps the promises of package model. Every backend's tests
// run the suite of its contract.
package modeltest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
)

// promptly is a time in which any cancelled call should have returned.
const promptly = 5 * time.Second

// hardTexts are prompts that people write.
var hardTexts = map[string]string{
	"empty":   "",
	"blank":   " \n\t ",
	"unicode": "Ein Schloß bei Nacht 🏰 — 夜の城, قلعة, \u202eltr\u202c, e\u0301, \U0001F468\u200d\U0001F469\u200d\U0001F467",
	"quotes":  `"cat" \ 'dog' {"a": [1]} <b>&amp; ((ugly)) [x] $HOME %s`,
	"invalid": "caf\xe9 \xff\x00 end",
	"long":    strings.Repeat("a very detailed castle, ", 3000),
}

// Picture is a picture of width x height pixels that another shade makes another picture.
func Picture(tb testing.TB, width, height int, shade uint8) model.Picture {
	tb.Helper()
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.Set(x, y, color.RGBA{shade, uint8(x * 255 / width), uint8(y * 255 / height), 0xff})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		tb.Fatal(err)
	}
	return PictureOf(b.Bytes())
}

// PictureOf is a picture of these bytes, whatever they are.
func PictureOf(data []byte) model.Picture {
	sum := sha256.Sum256(data)
	return model.Picture{SHA256: hex.EncodeToString(sum[:]), Bytes: func(context.Context) ([]byte, error) { return data, nil }}
}

// errPicture is what a picture says that cannot be read.
var errPicture = errors.New("store is on fire")

func unreadable() model.Picture {
	return model.Picture{SHA256: strings.Repeat("0", 64), Bytes: func(context.Context) ([]byte, error) { return nil, errPicture }}
}

// typed says whether an error is one that a backend may give for a strange but well-formed request.
func typed(err error) bool { return err == nil || errors.Is(err, model.ErrRejected) }

func checkInfo(t *testing.T, info func() model.Info) {
	t.Helper()
	i := info()
	if i.Name == "" || i.Weights == "" {
		t.Errorf("Info = %+v; a model needs a name and an identity", i)
	}
	if again := info(); again != i {
		t.Errorf("Info changes from %+v to %+v", i, again)
	}
}

// checkCancel runs call with a context that has ended, and with one that ends meanwhile.
func checkCancel(t *testing.T, call func(context.Context) error) {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := call(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v; want context.Canceled", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Millisecond)
	defer cancel()
	if err := call(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that ends: %v; want an answer or context.DeadlineExceeded", err)
	}
	if took := time.Since(start); took > promptly {
		t.Errorf("two cancelled calls took %v", took)
	}
}
