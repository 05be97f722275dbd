package vlm

import (
	"math/bits"
	"sync"

	"github.com/promptmill/promptmill/model/onnx"
)

// A pool keeps the memory of large tensors for the next ones. What the runtime allocates itself is copied on its way
// here, and new memory is cleared and mapped page by page: each costs as much as the arithmetic of a small model.
type pool struct {
	mu     sync.Mutex
	free   [4 * 64][][]float32 // by size class
	idle   int64               // bytes in free
	atMost int64
}

// sizeClass is the quarter of an octave that n lies in, and the most that lies there.
func sizeClass(n int) (class, most int) {
	if n < 8 {
		return 0, 8
	}
	octave := bits.Len(uint(n-1)) - 1 // n is in (1<<octave, 2<<octave]
	quarter := (n - 1 - 1<<octave) >> (octave - 2)
	return 4*octave + quarter, 1<<octave + (quarter+1)<<(octave-2)
}

// An array is a tensor of float32 whose memory comes from a pool.
type array struct {
	*onnx.Tensor
	data []float32
	pool *pool
}

// array returns a tensor that holds anything.
func (p *pool) array(shape ...int64) (*array, error) {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	class, most := sizeClass(int(n))
	a := &array{pool: p}
	if a.data = p.take(class); a.data == nil {
		a.data = make([]float32, most)
	}
	a.data = a.data[:n]
	var err error
	if a.Tensor, err = onnx.NewTensor(a.data, shape...); err != nil {
		return nil, err
	}
	return a, nil
}

func (p *pool) take(class int) []float32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.free[class]
	if len(free) == 0 {
		return nil
	}
	data := free[len(free)-1]
	free[len(free)-1] = nil
	p.free[class] = free[:len(free)-1]
	p.idle -= int64(4 * cap(data))
	return data
}

// put takes memory back. When too much lies idle all of it goes: sizes that are asked for come again.
func (p *pool) put(class int, data []float32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle > p.atMost {
		p.free, p.idle = [4 * 64][][]float32{}, 0
	}
	p.free[class] = append(p.free[class], data)
	p.idle += int64(4 * cap(data))
}

// close frees the tensor and gives its memory back. Closing it twice, or a nil one, does nothing.
func (a *array) close() {
	if a == nil || a.data == nil {
		return
	}
	a.Close()
	class, _ := sizeClass(len(a.data))
	a.pool.put(class, a.data)
	a.data = nil
}
