package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/parquet-go/parquet-go"
)

// A Sum identifies a multiset of rows: the sum modulo 2^256 of the SHA-256 of each canonical row. It
// is the same whatever the order of the rows and however they are cut into shards; unlike an exclusive
// or, it tells a row that is there twice from one that is not. The zero Sum is that of no rows.
//
// A row's canonical form is, for each of its values in column order: column index, repetition and
// definition level and physical type (one byte each, the index four, little-endian; the type of a null
// is 255), the length of the value in eight bytes, and the value in Parquet's PLAIN encoding without
// a length. It depends on nothing but the schema and the data.
type Sum struct {
	words [4]uint64 // little end first
}

// A Hasher computes the Sum of single rows. The zero Hasher is ready; it is not safe for concurrent use.
type Hasher struct {
	buf []byte
}

// Row is the Sum of one row as parquet-go reads and writes it.
func (h *Hasher) Row(row parquet.Row) Sum {
	b := h.buf[:0]
	for _, v := range row {
		kind := byte(255)
		if !v.IsNull() {
			kind = byte(v.Kind())
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(v.Column()))
		b = append(b, byte(v.RepetitionLevel()), byte(v.DefinitionLevel()), kind)
		at := len(b)
		b = v.AppendBytes(append(b, 0, 0, 0, 0, 0, 0, 0, 0))
		binary.LittleEndian.PutUint64(b[at:], uint64(len(b)-at-8))
	}
	h.buf = b
	digest := sha256.Sum256(b)
	return fromBytes(digest)
}

func fromBytes(b [32]byte) (s Sum) {
	for i := range s.words {
		s.words[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return s
}

// Add adds the rows of t to s.
func (s *Sum) Add(t Sum) {
	var carry uint64
	for i := range s.words {
		s.words[i], carry = bits.Add64(s.words[i], t.words[i], carry)
	}
}

// String is 64 hex digits.
func (s Sum) String() string {
	var b [32]byte
	for i, w := range s.words {
		binary.BigEndian.PutUint64(b[24-8*i:], w)
	}
	return hex.EncodeToString(b[:])
}

// ParseSum reads what String writes.
func ParseSum(text string) (Sum, error) {
	var b [32]byte
	if len(text) != 2*len(b) {
		return Sum{}, fmt.Errorf("row sum %q: not %d hex digits", text, 2*len(b))
	}
	if _, err := hex.Decode(b[:], []byte(text)); err != nil {
		return Sum{}, fmt.Errorf("row sum %q: %w", text, err)
	}
	return fromBytes(b), nil
}
