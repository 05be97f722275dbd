package responselog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// A frame is one record as it is stored, in a journal and in a segment alike, little endian:
//
//	magic     4 bytes  where to begin again after a damaged frame
//	length    4        of all that follows the checksum
//	checksum  4        CRC-32C of all that follows it
//	key      32
//	stored    8        nanoseconds since 1970
//	first     4        position of the first answer
//	count     2        number of answers
//	codec     1        of the payload
//	payload
const (
	frameMagic   = "\xf5pmr"
	frameLead    = 12
	frameHead    = frameLead + 32 + 8 + 4 + 2 + 1
	codecRaw     = 0
	codecS2      = 1
	minCompress  = 64       // shorter payloads are not worth a try
	maxPayload   = 16 << 20 // before compression
	maxPositions = 1 << 31  // positions are seeds
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged: the bytes are not a record, or not the one that was to be there.
var errDamaged = errors.New("damaged record")

// A record holds the answers of one call, at positions first, first+1, ..., first+n-1 of its key.
type record struct {
	key     key
	stored  int64
	first   uint32
	n       uint16
	payload []byte
}

// newFrame returns r's frame.
func newFrame(r record) ([]byte, error) {
	if len(r.payload) > maxPayload {
		return nil, fmt.Errorf("answers of %d bytes are over the limit of %d: lower max_tokens or n", len(r.payload), maxPayload)
	}
	frame := make([]byte, frameHead, frameHead+max(len(r.payload), s2.MaxEncodedLen(len(r.payload))))
	codec := byte(codecRaw)
	if len(r.payload) >= minCompress {
		if packed := s2.Encode(frame[frameHead:cap(frame)], r.payload); len(packed) < len(r.payload) {
			codec, frame = codecS2, frame[:frameHead+len(packed)]
		}
	}
	if codec == codecRaw {
		frame = append(frame, r.payload...)
	}
	copy(frame, frameMagic)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-frameLead))
	copy(frame[frameLead:], r.key[:])
	binary.LittleEndian.PutUint64(frame[44:], uint64(r.stored))
	binary.LittleEndian.PutUint32(frame[52:], r.first)
	binary.LittleEndian.PutUint16(frame[56:], r.n)
	frame[58] = codec
	binary.LittleEndian.PutUint32(frame[8:], crc32.Checksum(frame[frameLead:], castagnoli))
	return frame, nil
}

// checkFrame returns the frame that data begins with, and the record in it without its payload.
func checkFrame(data []byte) (frame []byte, r record, err error) {
	if len(data) < frameHead || string(data[:4]) != frameMagic {
		return nil, r, errDamaged
	}
	length := binary.LittleEndian.Uint32(data[4:])
	if length < frameHead-frameLead || uint64(length) > uint64(len(data)-frameLead) {
		return nil, r, errDamaged
	}
	frame = data[:frameLead+length]
	if crc32.Checksum(frame[frameLead:], castagnoli) != binary.LittleEndian.Uint32(frame[8:]) {
		return nil, r, errDamaged
	}
	r.key = key(frame[frameLead:])
	r.stored = int64(binary.LittleEndian.Uint64(frame[44:]))
	r.first = binary.LittleEndian.Uint32(frame[52:])
	r.n = binary.LittleEndian.Uint16(frame[56:])
	if r.n == 0 || uint64(r.first)+uint64(r.n) > maxPositions {
		return nil, r, errDamaged
	}
	return frame, r, nil
}

// parseFrame reads the one record that data is.
func parseFrame(data []byte) (record, error) {
	frame, r, err := checkFrame(data)
	if err != nil || len(frame) != len(data) {
		return r, errDamaged
	}
	payload := frame[frameHead:]
	switch frame[58] {
	case codecRaw:
		r.payload = payload
	case codecS2:
		if n, err := s2.DecodedLen(payload); err != nil || n > maxPayload {
			return r, errDamaged
		}
		if r.payload, err = s2.Decode(nil, payload); err != nil {
			return r, fmt.Errorf("%w: %w", errDamaged, err)
		}
	default:
		return r, errDamaged
	}
	return r, nil
}

// A framed is a frame and what its head says.
type framed struct {
	record
	offset int
	frame  []byte
}

// scan finds the sound frames in data. It returns how many stretches of other bytes lie before the last
// of them, and how many bytes after it: the torn end of a journal whose process died.
func scan(data []byte) (found []framed, damaged, torn int) {
	good := 0 // end of the last sound frame
	for at := 0; at < len(data); {
		frame, r, err := checkFrame(data[at:])
		if err != nil {
			next := bytes.Index(data[at+1:], []byte(frameMagic))
			if next < 0 {
				break
			}
			at += 1 + next
			continue
		}
		if at > good {
			damaged++
		}
		found = append(found, framed{record: r, offset: at, frame: frame})
		at += len(frame)
		good = at
	}
	return found, damaged, len(data) - good
}
