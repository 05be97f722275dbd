package responselog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"

	"github.com/promptmill/promptmill/store"
)

// A segment is frames sorted by key, an index of them, and a footer, little endian. An index entry is
//
//	prefix  8   of the key
//	stored  8
//	offset  4   of the frame
//	size    4   of the frame
//	first   4
//	count   2
//
// and the footer is the index's offset (4 bytes), the number of its entries (4), the CRC-32C of index
// and of these two (4), and a magic (8). A segment whose index is damaged is scanned frame by frame.
const (
	dir           = "responses/"
	segmentPrefix = dir + "seg-"
	journalPrefix = dir + "wal-"
	indexEntry    = 8 + 8 + 4 + 4 + 4 + 2
	footerSize    = 4 + 4 + 4 + 8
	segmentMagic  = "pmrseg1\n"
	// fileBytes is what a merge makes at most: it is held in memory then.
	fileBytes = 32 << 20
)

// A located record is where an index says that it lies.
type located struct {
	prefix uint64
	entry
}

// buildSegment makes a segment of frames, which it sorts, and returns the frames it kept: of several
// for the same positions of one key only the first stored.
func buildSegment(frames []framed) (data []byte, kept []framed) {
	slices.SortFunc(frames, func(a, b framed) int {
		return cmp.Or(bytes.Compare(a.key[:], b.key[:]), cmp.Compare(a.first, b.first), cmp.Compare(a.n, b.n),
			cmp.Compare(a.stored, b.stored), bytes.Compare(a.frame, b.frame))
	})
	kept = slices.CompactFunc(frames, func(a, b framed) bool {
		return a.key == b.key && a.first == b.first && a.n == b.n
	})
	size := footerSize + len(kept)*indexEntry
	for _, f := range kept {
		size += len(f.frame)
	}
	data = make([]byte, 0, size)
	for _, f := range kept {
		data = append(data, f.frame...)
	}
	start, offset := len(data), 0
	for _, f := range kept {
		data = binary.LittleEndian.AppendUint64(data, f.key.prefix())
		data = binary.LittleEndian.AppendUint64(data, uint64(f.stored))
		data = binary.LittleEndian.AppendUint32(data, uint32(offset))
		data = binary.LittleEndian.AppendUint32(data, uint32(len(f.frame)))
		data = binary.LittleEndian.AppendUint32(data, f.first)
		data = binary.LittleEndian.AppendUint16(data, f.n)
		offset += len(f.frame)
	}
	data = binary.LittleEndian.AppendUint32(data, uint32(start))
	data = binary.LittleEndian.AppendUint32(data, uint32(len(kept)))
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data[start:], castagnoli))
	return append(data, segmentMagic...), kept
}

// putSegment publishes frames as a segment, durably. It returns the segment's name, the frames that
// are in it, with their old offsets, and its index in the same order.
func putSegment(ctx context.Context, st store.Store, frames []framed) (name string, kept []framed, records []located, err error) {
	data, kept := buildSegment(frames)
	sum := sha256.Sum256(data)
	name = segmentPrefix + hex.EncodeToString(sum[:16])
	err = st.PutIfAbsent(ctx, name, data)
	if errors.Is(err, store.ErrExists) {
		// Content that is not its name's: a machine crashed before that was on disk.
		slog.Warn("response log: replacing a damaged segment", "segment", name)
		if err = st.Delete(ctx, name); err == nil {
			err = st.PutIfAbsent(ctx, name, data)
		}
	}
	if err == nil {
		err = st.Sync(ctx)
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("seal %d records: %w", len(kept), err)
	}
	records, err = readIndex(bytes.NewReader(data), int64(len(data)))
	return name, kept, records, err
}

// readIndex reads the index of the segment r of size bytes. An error that wraps errDamaged says that
// it is not sound.
func readIndex(r io.ReaderAt, size int64) ([]located, error) {
	if size < footerSize || size > 1<<32 {
		return nil, fmt.Errorf("%w: segment of %d bytes", errDamaged, size)
	}
	var footer [footerSize]byte
	if err := readFull(r, footer[:], size-footerSize); err != nil {
		return nil, err
	}
	start, count := int64(binary.LittleEndian.Uint32(footer[:])), int64(binary.LittleEndian.Uint32(footer[4:]))
	if string(footer[12:]) != segmentMagic || start+count*indexEntry+footerSize != size {
		return nil, fmt.Errorf("%w: footer", errDamaged)
	}
	data := make([]byte, count*indexEntry+8)
	if err := readFull(r, data, start); err != nil {
		return nil, err
	}
	if crc32.Checksum(data, castagnoli) != binary.LittleEndian.Uint32(footer[8:]) {
		return nil, fmt.Errorf("%w: index", errDamaged)
	}
	records := make([]located, count)
	for i := range records {
		b, e := data[i*indexEntry:], &records[i]
		e.prefix = binary.LittleEndian.Uint64(b)
		e.stored = int64(binary.LittleEndian.Uint64(b[8:]))
		e.offset = binary.LittleEndian.Uint32(b[16:])
		e.size = binary.LittleEndian.Uint32(b[20:])
		e.first = binary.LittleEndian.Uint32(b[24:])
		e.n = binary.LittleEndian.Uint16(b[28:])
		if int64(e.offset)+int64(e.size) > start || e.n == 0 || uint64(e.first)+uint64(e.n) > maxPositions {
			return nil, fmt.Errorf("%w: index entry %d", errDamaged, i)
		}
	}
	return records, nil
}

// readFull fills p from offset. A file that ends before is damaged.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the file ends before byte %d", errDamaged, offset+int64(len(p)))
	}
	return err
}

// segmentFrames reads a whole segment, by its frames alone: it needs no sound index. It returns how
// many stretches of it are damaged.
func segmentFrames(data []byte) (frames []framed, damaged int) {
	end := len(data)
	if records, err := readIndex(bytes.NewReader(data), int64(len(data))); err == nil {
		end -= footerSize + len(records)*indexEntry
	}
	frames, damaged, torn := scan(data[:end])
	if torn > 0 {
		damaged++
	}
	return frames, damaged
}

// locate says where scanned frames lie, as an index would.
func locate(frames []framed) []located {
	records := make([]located, len(frames))
	for i, f := range frames {
		records[i] = located{f.key.prefix(), entry{
			stored: f.stored, offset: uint32(f.offset), size: uint32(len(f.frame)), first: f.first, n: f.n,
		}}
	}
	return records
}
