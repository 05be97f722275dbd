package command

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/store"
)

// newestCheckpoint is the checkpoint-N of the greatest N in dir that holds the file complete; "" if
// there is none. One that was being written when its program died does not hold it.
func newestCheckpoint(dir, complete string) (string, error) {
	return newest(dir, func(checkpoint string) (bool, error) {
		_, err := os.Stat(filepath.Join(checkpoint, complete))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	})
}

// newestWeights is dir if it holds weights, else the newest checkpoint-N in it that does; "" if none.
func newestWeights(dir string) (string, error) {
	has := func(dir string) (bool, error) {
		files, err := weightFiles(dir)
		return len(files) > 0, err
	}
	if ok, err := has(dir); ok || err != nil {
		return dir, err
	}
	return newest(dir, has)
}

func newest(dir string, want func(string) (bool, error)) (string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("train: checkpoints: %w", err)
	}
	best, found := -1, ""
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "checkpoint-")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || n <= best || !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		ok, err = want(path)
		if err != nil {
			return "", fmt.Errorf("train: checkpoints: %w", err)
		}
		if ok {
			best, found = n, path
		}
	}
	return found, nil
}

// weightFiles are the files of a model's weights, sorted. The state of the optimiser is not among them.
func weightFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		pickled := strings.HasPrefix(name, "pytorch_model") || strings.HasPrefix(name, "adapter_model") || name == "model.pt"
		switch ext := filepath.Ext(name); {
		case e.IsDir():
		case ext == ".safetensors" || ext == ".onnx" || ext == ".gguf" || pickled && (ext == ".bin" || ext == ".pt"):
			names = append(names, name)
		}
	}
	return names, nil
}

// errNotNumbers: the weights hold NaN or infinity.
var errNotNumbers = errors.New("the weights that were written hold values that are not numbers (NaN or infinite)")

// digestWeights is the hex SHA-256 of the weights in dir: of the names, sizes and bytes of their files
// in name order. An adapter's is mixed with the identity of what it is put on.
func digestWeights(ctx context.Context, dir, base string) (string, error) {
	names, err := weightFiles(dir)
	if err != nil {
		return "", fmt.Errorf("train: weights: %w", err)
	}
	all := sha256.New()
	adapter := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "adapter_model") })
	if adapter {
		fmt.Fprintf(all, "on %q\n", base)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		sum, size, err := hashFile(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(all, "%q %d %x\n", name, size, sum)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func hashFile(path string) (sum []byte, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return nil, 0, err
	}
	if filepath.Ext(path) == ".safetensors" {
		err = checkSafetensors(f, size)
	}
	return h.Sum(nil), size, err
}

// A tensor is an entry of a safetensors header (huggingface/safetensors, README): an 8-byte
// little-endian length, that many bytes of JSON, then the tensors' bytes.
type tensor struct {
	Type    string   `json:"dtype"`
	Offsets [2]int64 `json:"data_offsets"`
}

// exponents are the bits of a value's upper half that are all set in NaN and infinity, by type.
var exponents = map[string]struct {
	width int
	mask  uint16
}{"F32": {4, 0x7f80}, "BF16": {2, 0x7f80}, "F16": {2, 0x7c00}, "F64": {8, 0x7ff0}}

// checkSafetensors finds what a trainer that hides a NaN loss leaves behind, and files that are cut short.
func checkSafetensors(f io.ReaderAt, size int64) error {
	damaged := func(why string) error { return fmt.Errorf("%w: %s", store.ErrDamaged, why) }
	var head [8]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return damaged("no safetensors header")
	}
	length := binary.LittleEndian.Uint64(head[:])
	if length > uint64(max(size-8, 0)) || length > 100<<20 { // the format's own bound
		return damaged("the safetensors header is longer than the file")
	}
	text := make([]byte, length)
	if _, err := f.ReadAt(text, 8); err != nil {
		return damaged("the safetensors header is cut")
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return damaged("the safetensors header is not JSON")
	}
	start := 8 + int64(length)
	for name, raw := range entries {
		if name == "__metadata__" {
			continue
		}
		var t tensor
		if err := json.Unmarshal(raw, &t); err != nil || t.Offsets[0] < 0 || t.Offsets[1] < t.Offsets[0] || t.Offsets[1] > size-start {
			return damaged(fmt.Sprintf("tensor %q lies outside the file", name))
		}
		e, known := exponents[t.Type]
		if !known {
			continue
		}
		if err := checkNumbers(io.NewSectionReader(f, start+t.Offsets[0], t.Offsets[1]-t.Offsets[0]), e.width, e.mask); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
	}
	return nil
}

func checkNumbers(r io.Reader, width int, mask uint16) error {
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(r, buf)
		for i := width - 2; i+1 < n; i += width {
			if (uint16(buf[i])|uint16(buf[i+1])<<8)&mask == mask {
				return errNotNumbers
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func copyObject(ctx context.Context, st store.Store, name string, o store.Object) error {
	w, err := st.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, io.NewSectionReader(o, 0, o.Size())); err != nil {
		return err
	}
	return w.Commit()
}
