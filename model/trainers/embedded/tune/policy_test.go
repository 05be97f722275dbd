package tune_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
	"github.com/promptmill/promptmill/model/trainers/embedded/tune"
	"github.com/promptmill/promptmill/model/vlm/vlmtest"
)

type curve struct{ Loss, Norm []float64 }

// reference is what testdata/steps.py says.
type reference struct {
	Rows []struct {
		Prompt   []int32
		Slots    []int
		Pictures []string
		Chosen   []int32
		Rejected []int32
	}
	Reference     [][]float64
	DPO, NLL, SFT curve
}

func readReference(t *testing.T) (r reference, pairs, examples []tune.Row) {
	t.Helper()
	data, err := os.ReadFile("testdata/steps.json")
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range r.Rows {
		row := tune.Row{Prompt: q.Prompt, Slots: q.Slots, Answers: [][]int32{q.Chosen}}
		for _, name := range q.Pictures {
			row.Pictures = append(row.Pictures, func() ([]float32, error) { return draw(name, 3*side*side), nil })
		}
		examples = append(examples, row)
		row.Answers = [][]int32{q.Chosen, q.Rejected}
		pairs = append(pairs, row)
	}
	return r, pairs, examples
}

func openPolicy(t *testing.T, dir string, o tune.Options) *tune.Policy {
	t.Helper()
	p, err := tune.OpenPolicy(dir, window, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

var adam = embedded.AdamW{Beta1: .9, Beta2: .95, WeightDecay: .1, ClipNorm: 1}

// TestSteps compares with PyTorch, in batches of several sizes: text rows and rows with pictures, graphs that give all
// logits and such that give as many as asked for.
func TestSteps(t *testing.T) {
	want, pairs, examples := readReference(t)
	all := folder(t, vlmtest.Files{"onnx/decoder_model_merged.onnx": decoder(false).Marshal(), "onnx/embed_tokens.onnx": embedding().Marshal()})
	for name, c := range map[string]struct {
		dir       string
		micro     int
		objective tune.Objective
		rows      []tune.Row
		want      curve
	}{
		"dpo":     {folder(t, nil), 3, tune.Objective{Method: model.MethodDPO, Beta: .1}, pairs, want.DPO},
		"dpo+nll": {folder(t, nil), 8, tune.Objective{Method: model.MethodDPO, Beta: .5, NLLAlpha: .2}, pairs, want.NLL},
		"sft":     {folder(t, nil), 4, tune.Objective{Method: model.MethodSFT}, examples, want.SFT},
		// Its weights are not rounded, so it begins near PyTorch's and not at it.
		"all logits": {all, 2, tune.Objective{Method: model.MethodSFT}, examples, curve{want.SFT.Loss[:1], want.SFT.Norm[:1]}},
	} {
		t.Run(name, func(t *testing.T) {
			p := openPolicy(t, c.dir, tune.Options{MicroBatch: c.micro})
			logp, err := p.LogProbs(t.Context(), c.rows)
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.rows {
				c.rows[i].Reference = logp[i]
				for a, got := range logp[i] {
					if math.Abs(float64(got)-want.Reference[i][a]) > 1e-4 && name != "all logits" {
						t.Errorf("row %d, answer %d: log-probability %v, want %v", i, a, got, want.Reference[i][a])
					}
				}
			}
			first := 1e-5
			if name == "all logits" {
				first = 1e-3
			}
			schedule := embedded.Schedule{Peak: 3e-3, Warmup: 5, Steps: 50}
			for s, loss := range c.want.Loss {
				m, err := p.Step(t.Context(), c.objective, c.rows, adam, schedule.Rate(int64(s)))
				if err != nil {
					t.Fatal(err)
				}
				off, most := math.Abs(m["loss"]-loss), 1e-3
				if s == 0 {
					most = first
				}
				if off > most || math.Abs(m["gradient_norm"]-c.want.Norm[s]) > 1e-3*c.want.Norm[s] {
					t.Fatalf("step %d: loss %v with gradient %v, want %v with %v", s, m["loss"], m["gradient_norm"], loss, c.want.Norm[s])
				}
			}
		})
	}
}

// TestDPOMetrics: what a step tells of the pairs, worked out from log-probabilities.
func TestDPOMetrics(t *testing.T) {
	_, pairs, _ := readReference(t)
	p := openPolicy(t, folder(t, nil), tune.Options{MicroBatch: 2})
	logp, err := p.LogProbs(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{}
	n := float64(len(pairs))
	for i, l := range logp {
		shift := []float32{float32(i%3) - 1, .5} // the reference is not the policy here
		pairs[i].Reference = []float32{l[0] - shift[0], l[1] - shift[1]}
		margin := .2 * float64(shift[0]-shift[1])
		want["loss"] += math.Log1p(math.Exp(-margin)) / n
		want["margin"] += margin / n
		if margin > 0 {
			want["accuracy"] += 1 / n
		}
		want["chosen"] += float64(l[0]) / n
		want["rejected"] += float64(l[1]) / n
		want["nll"] -= float64(l[0]) / float64(len(pairs[i].Answers[0])) / n
		want["kl"] -= float64(shift[0]+shift[1]) / 2 / n
	}
	got, err := p.Step(t.Context(), tune.Objective{Method: model.MethodDPO, Beta: .2}, pairs, adam, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range want {
		if math.Abs(got[name]-w) > 2e-5*max(1, math.Abs(w)) {
			t.Errorf("%s: %v, want %v", name, got[name], w)
		}
	}
}

// TestManyShapes: rows of more shapes than graphs are kept, each as likely in training as in scoring.
func TestManyShapes(t *testing.T) {
	p := openPolicy(t, folder(t, nil), tune.Options{})
	var rows []tune.Row
	for n := 1; n < window-1; n += 17 { // the last ones are as long as the model takes
		row := tune.Row{Answers: [][]int32{make([]int32, min(n, window-n))}}
		for i := range n {
			row.Prompt = append(row.Prompt, int32(i))
		}
		rows = append(rows, row)
	}
	logp, err := p.LogProbs(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]tune.Row{rows, rows[:1]} { // the first is forgotten when it comes again
		for i, row := range part {
			m, err := p.Step(t.Context(), tune.Objective{Method: model.MethodSFT}, []tune.Row{row}, adam, 0)
			if err != nil {
				t.Fatal(err)
			}
			if want := -float64(logp[i][0]) / float64(len(row.Answers[0])); math.Abs(m["loss"]-want) > 1e-5*want {
				t.Errorf("prompt of %d: loss %v, want %v", len(row.Prompt), m["loss"], want)
			}
		}
	}
}

// TestWrite: the folder that is written has the files of the first, new weights in the types of the old ones, and the head
// still tied to the embeddings; frozen weights are as they were.
func TestWrite(t *testing.T) {
	_, _, examples := readReference(t)
	dir, out := folder(t, vlmtest.Files{".hidden": []byte("x"), "README.md": []byte("a model")}), filepath.Join(t.TempDir(), "out")
	p := openPolicy(t, dir, tune.Options{Freeze: regexp.MustCompile(`^vision/|norm1`)})
	for range 3 {
		if _, err := p.Step(t.Context(), tune.Objective{Method: model.MethodSFT}, examples, adam, .01); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Write(out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "tokenizer.json", "config.json"} {
		a, _ := os.ReadFile(filepath.Join(dir, name))
		if b, err := os.ReadFile(filepath.Join(out, name)); err != nil || !slices.Equal(a, b) {
			t.Errorf("%s: %v, or it is changed", name, err)
		}
	}
	for _, name := range []string{".hidden", "onnx/embed_tokens_q4.onnx"} {
		if _, err := os.Stat(filepath.Join(out, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was written: %v", name, err)
		}
	}
	var table [2][]float32
	for i, graph := range []string{"embed_tokens", "decoder_model_merged", "vision_encoder"} {
		before, after := initializers(t, dir, graph), initializers(t, out, graph)
		for name, old := range before {
			now := after[name]
			if now == nil || now.Type != old.Type {
				t.Errorf("%s: %s is missing or of another type", graph, name)
				continue
			}
			a, _ := old.Float32s()
			b, _ := now.Float32s()
			if frozen := graph == "vision_encoder" || strings.Contains(name, "norm1"); frozen != slices.Equal(a, b) {
				t.Errorf("%s: %s is frozen: %v, and equal: %v", graph, name, frozen, !frozen)
			}
			if name == "table" {
				table[i] = b
			}
		}
	}
	if !slices.Equal(table[0], table[1]) {
		t.Error("the head is no longer the embeddings")
	}
	again := openPolicy(t, out, tune.Options{})
	logp, err := again.LogProbs(t.Context(), examples[:1])
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.Step(t.Context(), tune.Objective{Method: model.MethodSFT}, examples[:1], adam, 0)
	if err != nil {
		t.Fatal(err)
	}
	if mean := -float64(logp[0][0]) / float64(len(examples[0].Answers[0])); math.Abs(mean-m["loss"]) > 5e-3 {
		t.Errorf("the model that was written has loss %v, the one in training %v", mean, m["loss"])
	}
}

func initializers(t *testing.T, dir, graph string) map[string]*onnxfile.Tensor {
	t.Helper()
	m, err := onnxfile.Open(filepath.Join(dir, "onnx", graph+".onnx"), onnxfile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*onnxfile.Tensor{}
	for _, i := range m.Graph.Initializers {
		out[i.Name] = i
	}
	return out
}

func TestOpenPolicyRefuses(t *testing.T) {
	foreign := func() *onnxfile.Model {
		m := decoder(true)
		m.Opsets = append(m.Opsets, &onnxfile.Opset{Domain: "com.microsoft", Version: 1})
		for _, n := range m.Graph.Nodes {
			if n.Op == "LayerNormalization" {
				n.Domain = "com.microsoft"
			}
		}
		return m
	}
	odd := func() *onnxfile.Model {
		b := build.New()
		x := b.Input("inputs_embeds", onnxfile.Float, "batch", "length", width)
		b.Input("token_type_ids", onnxfile.Int64, "batch", "length")
		b.Output("logits", x, onnxfile.Float, "batch", "length", width)
		return b.Model()
	}
	older := decoder(true)
	older.Opsets[0].Version = 18
	for name, c := range map[string]struct {
		change vlmtest.Files
		want   string
	}{
		"no decoder":        {vlmtest.Files{"onnx/decoder_model_merged.onnx": nil}, "no decoder_model_merged.onnx"},
		"no model":          {vlmtest.Files{"onnx/decoder_model_merged.onnx": []byte("no")}, "bad ONNX model"},
		"unknown input":     {vlmtest.Files{"onnx/decoder_model_merged.onnx": odd().Marshal()}, "token_type_ids"},
		"foreign operators": {vlmtest.Files{"onnx/decoder_model_merged.onnx": foreign().Marshal()}, "com.microsoft"},
		"another version":   {vlmtest.Files{"onnx/decoder_model_merged.onnx": older.Marshal()}, "operator set"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, examples := readReference(t)
			p, err := tune.OpenPolicy(folder(t, c.change), window, tune.Options{})
			if err == nil {
				defer p.Close()
				_, err = p.Step(t.Context(), tune.Objective{Method: model.MethodSFT}, examples, adam, .1)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}
