package tune

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// The graphs of a model folder, as onnx-community names them. A decoder's weights may be tied to the embeddings' by
// name, so those come first.
const (
	embedGraph   = "embed_tokens"
	visionGraph  = "vision_encoder"
	decoderGraph = "decoder_model_merged"
)

// inputsEmbeds is where the decoder of a composed graph begins to read.
const inputsEmbeds = "decoder/inputs_embeds"

// A part is one graph of the folder.
type part struct {
	prefix   string
	path     string // in the folder
	original *onnxfile.Model
	renamed  *onnxfile.Model // the same, with names of its own among the other parts'
}

// readPart reads a graph of the folder; tied gives the names that weights have in parts before.
func readPart(folder, name, prefix string, tied *part) (*part, error) {
	for _, path := range []string{filepath.Join("onnx", name+".onnx"), name + ".onnx"} {
		m, err := onnxfile.Open(filepath.Join(folder, path), onnxfile.Limits{})
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p := &part{prefix: prefix, path: path, original: m}
		if err := p.rename(tied); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(folder, path), err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("%s: no %s.onnx, neither there nor in onnx/", folder, name)
}

// rename puts the prefix before all names. A weight that the tied part has under the same name with the same content is one
// with it.
func (p *part) rename(tied *part) error {
	g := p.original.Graph
	switch files := p.original.Summary().ExternalFiles; {
	case len(files) > 0:
		return fmt.Errorf("its weights are in %s: export it with the weights inside", strings.Join(files, ", "))
	case len(p.original.Functions) > 0 || len(g.Sparse) > 0:
		return errors.New("it has functions or sparse weights, which cannot be trained here")
	}
	shared := map[string]bool{}
	if tied != nil {
		for _, t := range g.Initializers {
			shared[t.Name] = tied.has(t)
		}
	}
	name := func(old string) string {
		switch {
		case old == "":
			return ""
		case shared[old]:
			return tied.prefix + old
		}
		return p.prefix + old
	}
	to := &onnxfile.Graph{Name: g.Name}
	for _, t := range g.Initializers {
		c := *t
		c.Name = name(t.Name)
		to.Initializers = append(to.Initializers, &c)
	}
	for _, n := range g.Nodes {
		for _, a := range n.Attributes {
			if a.Graph != nil || len(a.Graphs) > 0 {
				return fmt.Errorf("node %q (%s) holds a graph, which cannot be trained here: export the decoder without branches", n.Name, n.Op)
			}
		}
		c := *n
		c.Name, c.Inputs, c.Outputs = p.prefix+n.Name, slices.Clone(n.Inputs), slices.Clone(n.Outputs)
		for _, names := range [][]string{c.Inputs, c.Outputs} {
			for i, old := range names {
				names[i] = name(old)
			}
		}
		to.Nodes = append(to.Nodes, &c)
	}
	m := *p.original
	m.Graph = to
	p.renamed = &m
	return nil
}

// has finds a weight of the same name, type, shape and content. One value alone, as in a fresh scale, proves nothing.
func (p *part) has(t *onnxfile.Tensor) bool {
	for _, own := range p.original.Graph.Initializers {
		if own.Name == t.Name && own.Type == t.Type && slices.Equal(own.Dims, t.Dims) {
			a, errA := own.Float32s()
			b, errB := t.Float32s()
			return errA == nil && errB == nil && slices.Equal(a, b) && slices.ContainsFunc(a, func(v float32) bool { return v != a[0] })
		}
	}
	return false
}

// bytes is the graph's file with the weights of p.
func (p *part) bytes(params *embedded.Params) ([]byte, error) {
	if !slices.ContainsFunc(p.renamed.Graph.Initializers, func(t *onnxfile.Tensor) bool { return params.Weight(t.Name) != nil }) {
		return p.original.Marshal(), nil
	}
	if err := params.Store(p.renamed); err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	m, g := *p.original, *p.original.Graph
	g.Initializers = nil
	for i, t := range p.renamed.Graph.Initializers {
		c := *t
		c.Name = p.original.Graph.Initializers[i].Name
		g.Initializers = append(g.Initializers, &c)
	}
	m.Graph = &g
	return m.Marshal(), nil
}

// Write makes a folder with the files of the one that was opened and the weights as they are now, in the type that they
// have there. It appears whole or not at all; one that is there already stays. Only one may write
// it at a time.
//
// Graphs other than the three that are trained, such as quantised ones, hold other weights and are left out.
func (p *Policy) Write(folder string) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	temp := folder + ".writing" // perhaps what is left of an attempt
	if err := os.RemoveAll(temp); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := p.writeFiles(temp); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	if err := os.Rename(temp, folder); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	return nil
}

func (p *Policy) writeFiles(to string) error {
	err := filepath.WalkDir(p.folder, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(p.folder, path)
		hidden := strings.HasPrefix(d.Name(), ".") && name != "."
		switch {
		case err != nil:
			return err
		case hidden && d.IsDir():
			return filepath.SkipDir
		case d.IsDir() || hidden || strings.Contains(d.Name(), ".onnx"):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(to, name), data)
	})
	if err != nil {
		return err
	}
	for _, part := range p.parts {
		data, err := part.bytes(p.params)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(to, part.path), data); err != nil {
			return err
		}
	}
	return nil
}

// writeFile makes a new file with its folder, durable before it returns.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(data).WriteTo(f)
	return errors.Join(err, f.Sync(), f.Close())
}
