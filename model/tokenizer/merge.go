package tokenizer

// A symbol is a node of the list of a word's symbols; next is -1 at the end and prev at the start.
type symbol struct {
	id, prev, next int32
	gone           bool
}

// A candidate is a merge that could be made at position at, the place of its left symbol.
type candidate struct{ rank, at, id int32 }

func (c candidate) before(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.at < d.at
}

// merged applies the merges to the symbols in the order of their ranks, from left to right among equals, and
// appends what is left to ids. A heap keeps it at n log n for words of any length.
func merged(word []int32, merges map[pair]merge, ids []int32) []int32 {
	list := make([]symbol, len(word))
	for i, id := range word {
		list[i] = symbol{id: id, prev: int32(i) - 1, next: int32(i) + 1}
	}
	if len(list) == 0 {
		return ids
	}
	list[len(list)-1].next = -1
	queue := make(candidates, 0, len(list))
	offer := func(at int32) {
		if at < 0 || list[at].next < 0 {
			return
		}
		if m, ok := merges[pair{list[at].id, list[list[at].next].id}]; ok {
			queue.push(candidate{m.rank, at, m.id})
		}
	}
	for i := range list {
		offer(int32(i))
	}
	for len(queue) > 0 {
		c := queue.pop()
		left := &list[c.at]
		if left.gone || left.next < 0 {
			continue
		}
		right := &list[left.next]
		if m, ok := merges[pair{left.id, right.id}]; !ok || m.id != c.id {
			continue // a neighbour was merged since
		}
		right.gone = true
		left.id, left.next = c.id, right.next
		if left.next >= 0 {
			list[left.next].prev = c.at
		}
		offer(left.prev)
		offer(c.at)
	}
	for i := int32(0); i >= 0; i = list[i].next {
		ids = append(ids, list[i].id)
	}
	return ids
}

// candidates is a binary heap, the first of all in front.
type candidates []candidate

func (q *candidates) push(c candidate) {
	h := append(*q, c)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !c.before(h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = c
	*q = h
}

func (q *candidates) pop() candidate {
	h := *q
	first, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	i := 0
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1].before(h[down]) {
			down++
		}
		if !h[down].before(last) {
			break
		}
		h[i] = h[down]
		i = down
	}
	if len(h) > 0 {
		h[i] = last
	}
	*q = h
	return first
}
