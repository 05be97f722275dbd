package dedup

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/dedup/shingle"
)

const (
	bands    = 16
	bandRows = 4
	// sketchSize bounds a prompt's set of shingles: up to so many, similarity is exact.
	sketchSize = 256
	// bucketCap is with how many of its bucket a prompt is compared.
	bucketCap = 64
	// partitions is how many groups the buckets are dealt into: two million prompts are 20 MB in each.
	partitions = 256
	// blockBytes is the size from which a block is sent on.
	blockBytes = 64 << 10
)

// An entry is a prompt in one band's bucket.
type entry struct {
	band, rank uint64
	id         string
	set        []uint32
}

func (e *entry) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.band)
	b = binary.LittleEndian.AppendUint64(b, e.rank)
	b = binary.AppendUvarint(b, uint64(len(e.id)))
	b = append(b, e.id...)
	b = binary.AppendUvarint(b, uint64(len(e.set)))
	for _, h := range e.set {
		b = binary.LittleEndian.AppendUint32(b, h)
	}
	return b
}

var errBlock = errors.New("dedup: a block between two steps is damaged")

func readEntry(b []byte) (e entry, rest []byte, err error) {
	if len(b) < 16 {
		return e, nil, errBlock
	}
	e.band, e.rank = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	b = b[16:]
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return e, nil, errBlock
	}
	e.id, b = string(b[k:k+int(n)]), b[k+int(n):]
	n, k = binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k)/4 {
		return e, nil, errBlock
	}
	b = b[k:]
	e.set = make([]uint32, n)
	for i := range e.set {
		e.set[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return e, b[4*n:], nil
}

// bandHashes are the hashes of the bands of the set's MinHash signature.
func bandHashes(set []uint32) (out [bands]uint64) {
	for b := range out {
		h := uint64(b)
		for r := range bandRows {
			// A permutation is a mix of the hash with its number.
			key := shingle.Mix(uint64(b*bandRows+r+1) << 32)
			least := uint64(math.MaxUint64)
			for _, x := range set {
				least = min(least, shingle.Mix(key^uint64(x)))
			}
			h = shingle.Mix(h ^ least)
		}
		out[b] = h
	}
	return out
}

// bandFn puts prompts into buckets, packed into blocks of one partition each.
type bandFn struct {
	Config Config `json:"config"`

	blocks map[int64][]byte
}

func (fn *bandFn) StartBundle(context.Context, func(int64, []byte)) { fn.blocks = map[int64][]byte{} }

func (fn *bandFn) ProcessElement(_ context.Context, p schemas.Prompt, emit func(int64, []byte)) {
	e := entry{rank: schemas.Rank(fn.Config.Seed, p.ID), id: p.ID}
	e.set = shingle.Set(shingle.Fold(p.Text), fn.Config.ShingleWords, sketchSize)
	for _, e.band = range bandHashes(e.set) {
		part := int64(e.band % partitions)
		block := e.append(fn.blocks[part])
		if len(block) >= blockBytes {
			emit(part, block)
			block = nil
		}
		fn.blocks[part] = block
	}
}

func (fn *bandFn) FinishBundle(_ context.Context, emit func(int64, []byte)) {
	for part, block := range fn.blocks {
		if len(block) > 0 {
			emit(part, block)
		}
	}
	fn.blocks = nil
}

// compareFn emits the id of each prompt that has a similar one of lower rank in a bucket.
type compareFn struct {
	Config Config `json:"config"`
}

func (fn *compareFn) ProcessElement(ctx context.Context, _ int64, blocks func(*[]byte) bool, drop func(string, bool)) error {
	var entries []entry
	var block []byte
	for blocks(&block) {
		for len(block) > 0 {
			e, rest, err := readEntry(block)
			if err != nil {
				return err
			}
			entries, block = append(entries, e), rest
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.band, b.band), cmp.Compare(a.rank, b.rank), strings.Compare(a.id, b.id))
	})
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].band == entries[0].band {
			n++
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		fn.bucket(entries[:n], drop)
		entries = entries[n:]
	}
	return nil
}

func (fn *compareFn) bucket(entries []entry, drop func(string, bool)) {
	for i, e := range entries {
		for _, lower := range entries[:min(i, bucketCap)] {
			if shingle.Jaccard(e.set, lower.set, sketchSize) >= fn.Config.Threshold {
				drop(e.id, true)
				break
			}
		}
	}
}
