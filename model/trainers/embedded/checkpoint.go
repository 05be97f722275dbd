package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// ErrCheckpoint is wrapped by every error of Load that says that the file is not a whole checkpoint of these parameters.
var ErrCheckpoint = errors.New("checkpoint")

// A checkpoint file is the magic line, the length of a header (4 bytes, little-endian), the header in JSON, for each
// weight of the header itself, its two moments and, if the header says so, its average as float32, little-endian, and the
// SHA-256 of everything before.
const checkpointMagic = "promptmill checkpoint 1\n"

type checkpointHeader struct {
	Steps   int64             `json:"steps"`
	Average bool              `json:"average"`
	Weights []checkpointEntry `json:"weights"`
}

type checkpointEntry struct {
	Name  string  `json:"name"`
	Dims  []int64 `json:"dims"`
	Steps int64   `json:"steps"`
}

// Save writes weights, moments, averages and the number of steps to the file at path, which appears whole or not at
// all. Gradients are not saved: it is an error if there are any that no Step has taken.
func (p *Params) Save(path string) error {
	if p.runs > 0 {
		return fmt.Errorf("save checkpoint %s: there are gradients of %d runs; call Step first", path, p.runs)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	_, err = f.Write(p.encode())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("save checkpoint %s: %w", path, err)
	}
	return nil
}

func (p *Params) encode() []byte {
	h := checkpointHeader{Steps: p.steps}
	for _, q := range p.list {
		h.Average = h.Average || q.average != nil
		h.Weights = append(h.Weights, checkpointEntry{Name: q.name, Dims: q.dims, Steps: q.steps})
	}
	header, err := json.Marshal(h)
	if err != nil {
		panic(err) // numbers and text
	}
	b := append([]byte(checkpointMagic), binary.LittleEndian.AppendUint32(nil, uint32(len(header)))...)
	b = append(b, header...)
	b = slices.Grow(b, 4*4*p.Count()+sha256.Size)
	for _, q := range p.list {
		for _, v := range q.vectors(h.Average) {
			for _, x := range v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
		}
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// vectors are what is saved of a weight, in order.
func (q *param) vectors(average bool) [][]float32 {
	v := [][]float32{q.weight, q.first, q.second}
	if average {
		v = append(v, q.average)
	}
	return v
}

// Load makes p what was saved at path: training goes on as if it had not stopped, to the bit. The parameters must be
// the same, by name, shape and order. If it fails, p is unchanged.
func (p *Params) Load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("load checkpoint: %w", err)
	}
	defer f.Close()
	// A file of anything else may be of any size.
	limit := int64(1<<20 + 256*len(p.list) + 4*4*p.Count())
	for _, q := range p.list {
		limit += int64(6*len(q.name) + 32*len(q.dims))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return fmt.Errorf("load checkpoint %s: %w", path, err)
	}
	if err := p.decode(data); err != nil {
		return fmt.Errorf("load %w %s: %w; take an older one, or begin anew", ErrCheckpoint, path, err)
	}
	return nil
}

func (p *Params) decode(data []byte) error {
	rest, ok := bytes.CutPrefix(data, []byte(checkpointMagic))
	if !ok {
		return errors.New("it does not begin as a checkpoint does")
	}
	at := len(data) - sha256.Size
	if len(rest) < 4+sha256.Size {
		return errors.New("it is cut off")
	}
	if sum := sha256.Sum256(data[:at]); !bytes.Equal(sum[:], data[at:]) {
		return errors.New("its digest does not fit: it is cut off or damaged")
	}
	rest = rest[:len(rest)-sha256.Size]
	n := int64(binary.LittleEndian.Uint32(rest))
	if rest = rest[4:]; n > int64(len(rest)) {
		return errors.New("its header is longer than the file")
	}
	var h checkpointHeader
	if err := json.Unmarshal(rest[:n], &h); err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	rest = rest[n:]
	if len(h.Weights) != len(p.list) {
		return fmt.Errorf("it has %d parameters, not %d", len(h.Weights), len(p.list))
	}
	for i, q := range p.list {
		if e := h.Weights[i]; e.Name != q.name || !slices.Equal(e.Dims, q.dims) {
			return fmt.Errorf("parameter %d is %q %v, not %q %v", i, e.Name, e.Dims, q.name, q.dims)
		}
	}
	vectors := 3
	if h.Average {
		vectors = 4
	}
	if len(rest) != 4*vectors*p.Count() {
		return fmt.Errorf("it has %d bytes of numbers, not %d", len(rest), 4*vectors*p.Count())
	}
	p.steps, p.runs = h.Steps, 0
	for i, q := range p.list {
		q.steps, q.reached, q.average = h.Weights[i].Steps, false, nil
		if h.Average {
			q.average = make([]float32, len(q.weight))
		}
		for _, v := range q.vectors(h.Average) {
			for j := range v {
				v[j] = math.Float32frombits(binary.LittleEndian.Uint32(rest))
				rest = rest[4:]
			}
		}
	}
	return nil
}
