package responselog

import (
	"cmp"
	"slices"
)

// An entry says where a record lies.
type entry struct {
	stored       int64
	offset, size uint32
	first        uint32
	// next is the number of the next entry of the same bucket; 0 ends it.
	next uint32
	file uint32
	n    uint16
}

func (e *entry) covers(first uint32, n int) bool {
	return e.n > 0 && uint64(e.first) < uint64(first)+uint64(n) && uint64(first) < uint64(e.first)+uint64(e.n)
}

// An index finds records by the prefix of their key and the positions of their answers. Positions are
// cut into blocks; a record is in the bucket of each block it touches, nearly always one, so that a
// request asked ten thousand times with other seeds does not make one long bucket. Buckets are lists
// in order of storing. Keys of equal prefix share a bucket: who reads a record compares its key.
//
// It holds no pointers that a garbage collector would follow: a map of integers, and entries in
// chunks, which grow without copying.
type index struct {
	heads   map[uint64]uint32
	chunks  [][]entry
	entries uint32
	records int
}

const (
	blockBits = 8
	chunkBits = 12
	chunkMask = 1<<chunkBits - 1
)

func bucket(prefix uint64, block uint32) uint64 {
	return prefix + uint64(block)*0x9e3779b97f4a7c15
}

func (x *index) at(i uint32) *entry { return &x.chunks[i>>chunkBits][i&chunkMask] }

// add files e under prefix.
func (x *index) add(prefix uint64, e entry) {
	if x.heads == nil {
		x.heads = map[uint64]uint32{}
		x.push(entry{}) // number 0 ends a list
	}
	x.records++
	for block := e.first >> blockBits; block <= (e.first+uint32(e.n)-1)>>blockBits; block++ {
		b := bucket(prefix, block)
		before, after := uint32(0), x.heads[b]
		for after != 0 && x.at(after).stored <= e.stored {
			before, after = after, x.at(after).next
		}
		e.next = after
		number := x.push(e)
		if before == 0 {
			x.heads[b] = number
		} else {
			x.at(before).next = number
		}
	}
}

func (x *index) push(e entry) uint32 {
	if x.entries&chunkMask == 0 {
		x.chunks = append(x.chunks, make([]entry, 0, 1<<chunkBits))
	}
	last := &x.chunks[len(x.chunks)-1]
	*last = append(*last, e)
	x.entries++
	return x.entries - 1
}

// find appends to into the records that hold any of the positions first to first+n-1, the first
// stored first.
func (x *index) find(into []entry, prefix uint64, first uint32, n int) []entry {
	for block := first >> blockBits; block <= (first+uint32(n)-1)>>blockBits; block++ {
		for i := x.heads[bucket(prefix, block)]; i != 0; i = x.at(i).next {
			e := *x.at(i)
			e.next = 0
			// A record across two blocks is met twice.
			if e.covers(first, n) && !slices.Contains(into, e) {
				into = append(into, e)
			}
		}
	}
	slices.SortStableFunc(into, func(a, b entry) int { return cmp.Compare(a.stored, b.stored) })
	return into
}

// change calls edit with each entry of the record at old.
func (x *index) change(prefix uint64, old entry, edit func(*entry)) {
	for block := old.first >> blockBits; block <= (old.first+uint32(old.n)-1)>>blockBits; block++ {
		for i := x.heads[bucket(prefix, block)]; i != 0; {
			e := x.at(i)
			i = e.next
			if e.file == old.file && e.offset == old.offset {
				edit(e)
			}
		}
	}
}

// move says that the record at old now lies at offset in file.
func (x *index) move(prefix uint64, old entry, file, offset uint32) {
	x.change(prefix, old, func(e *entry) { e.file, e.offset = file, offset })
}

// drop forgets the record at old.
func (x *index) drop(prefix uint64, old entry) {
	dropped := 0
	x.change(prefix, old, func(e *entry) {
		if e.n > 0 {
			e.n, dropped = 0, 1
		}
	})
	x.records -= dropped
}

// dropFile forgets what still points into file.
func (x *index) dropFile(file uint32) {
	dropped := map[uint32]bool{} // by offset: a record may have two entries
	for _, c := range x.chunks {
		for i := range c {
			if c[i].file == file && c[i].n > 0 {
				c[i].n = 0
				dropped[c[i].offset] = true
			}
		}
	}
	x.records -= len(dropped)
}
