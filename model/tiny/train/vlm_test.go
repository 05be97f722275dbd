package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/scene"
)

// values are tensors by name for one run of a graph.
type values map[string]*onnx.Tensor

func tensor[E onnx.Element](t *testing.T, data []E, shape ...int64) *onnx.Tensor {
	t.Helper()
	v, err := onnx.NewTensor(data, shape...)
	if errors.Is(err, onnx.ErrLibrary) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return v
}

// graph loads a model and returns what runs it.
func graph(t *testing.T, m *onnxfile.Model, outputs ...string) func(in values) values {
	t.Helper()
	s, err := onnx.Load(m, t.Name(), onnx.Options{Outputs: outputs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return func(in values) values {
		t.Helper()
		var feeds []*onnx.Tensor
		for _, p := range s.Inputs() {
			feeds = append(feeds, in[p.Name])
		}
		results, err := s.Run(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		out := values{}
		for i, p := range s.Outputs() {
			out[p.Name] = results[i]
		}
		return out
	}
}

// The graphs for use, with their cache, one token after the other, give the logits of the graph that is trained.
func TestVLMGraphsAgree(t *testing.T) {
	const answer = 40
	rng := rand.New(rand.NewPCG(3, 4))
	w := newVLM(7)
	for _, of := range w { // trained weights are larger than new ones, and none is 0 or 1
		for i := range of.values {
			of.values[i] += .05 * float32(rng.NormFloat64())
		}
	}
	for _, prompt := range []int{vlmBucket, 3 * vlmBucket} {
		t.Run(fmt.Sprint(prompt), func(t *testing.T) {
			length := prompt + answer - 1
			ids := make([]int64, length)
			for i := range ids {
				ids[i] = rng.Int64N(Vocabulary)
			}
			pixels := make([]float32, 2*3*scene.Side*scene.Side)
			for i := range pixels {
				pixels[i] = 2 * float32(rng.NormFloat64())
			}
			pictures := tensor(t, pixels, 2, 3, scene.Side, scene.Side)
			want := graph(t, textLoss(w, 1, prompt, answer, true), "logits")(values{
				"ids": tensor(t, ids, 1, int64(length)), "pixels": pictures,
				"targets": tensor(t, make([]int64, answer), 1, answer), "statistics": tensor(t, make([]float32, 2*Statistics), 2, Statistics),
			})["logits"]

			embeds := graph(t, embedGraph(w))(values{"input_ids": tensor(t, ids, 1, int64(length))})["inputs_embeds"]
			features := graph(t, visionGraph(w))(values{"pixel_values": pictures})["image_features"]
			x := onnx.Data[float32](embeds)
			copy(x[(prompt-1-2*pictureTokens)*vlmWidth:], onnx.Data[float32](features))

			decode := graph(t, decoderModelGraph(w))
			cache := values{}
			for i := range vlmLayers {
				for _, kind := range []string{"key", "value"} {
					cache[fmt.Sprintf("past_key_values.%d.%s", i, kind)] = tensor(t, []float32{}, 1, vlmHeads, 0, vlmReach)
				}
			}
			var got []float32
			for from, to := 0, prompt; to <= length; from, to = to, to+1 {
				in := values{
					"inputs_embeds":      tensor(t, x[from*vlmWidth:to*vlmWidth], 1, int64(to-from), vlmWidth),
					"attention_mask":     tensor(t, slices.Repeat([]int64{1}, to), 1, int64(to)),
					"position_ids":       tensor(t, sequence(from, to), 1, int64(to-from)),
					"num_logits_to_keep": tensor(t, []int64{1}, 1),
				}
				for name, v := range cache {
					in[name] = v
				}
				out := decode(in)
				got = append(got, onnx.Data[float32](out["logits"])...)
				for i := range vlmLayers {
					for _, kind := range []string{"key", "value"} {
						cache[fmt.Sprintf("past_key_values.%d.%s", i, kind)] = out[fmt.Sprintf("present.%d.%s", i, kind)]
					}
				}
			}
			if d := farthest(got, onnx.Data[float32](want)); !(d < 1e-4) {
				t.Errorf("logits differ by %v", d)
			}
		})
	}
}

func sequence(from, to int) (out []int64) {
	for i := from; i < to; i++ {
		out = append(out, int64(i))
	}
	return out
}

// farthest is the largest difference, or infinity where the lengths differ.
func farthest(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	var most float64
	for i := range a {
		d := math.Abs(float64(a[i] - b[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		most = max(most, d)
	}
	return most
}
