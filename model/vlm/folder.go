package vlm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// ErrFolder is wrapped by the errors of Open that say that a folder is not a model of this layout: a file is missing,
// cannot be read, or does not fit the others. The error names the file.
var ErrFolder = errors.New("bad model folder")

// The graphs, as onnx-community names them.
const (
	visionGraph  = "vision_encoder"
	embedGraph   = "embed_tokens"
	decoderGraph = "decoder_model_merged"
)

// graphPath finds a graph. A variant is what is added to the name of its
// quantised forms (fp16, q4); what has no such form is taken as it is.
func graphPath(folder, graph, variant string) (string, error) {
	names := []string{graph + ".onnx"}
	if variant != "" {
		names = slices.Insert(names, 0, graph+"_"+variant+".onnx")
	}
	if path := onnx.FindGraph(folder, names...); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%w: %s: no %s, neither there nor in onnx/", ErrFolder, folder, names[len(names)-1])
}

// readJSON reads a configuration file of the folder into v. What is not there leaves v as it is.
func readJSON(folder, name string, v any) error {
	path := filepath.Join(folder, name)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFolder, path, err)
	}
	return nil
}

// Digest is the identity of a folder's model, which answers, pairs and checkpoints carry as its weights: over the graphs
// of a variant ("" for the plain ones), the files that hold their weights and every configuration file.
func Digest(folder, variant string) (string, error) {
	var files []string
	for _, graph := range []string{visionGraph, embedGraph, decoderGraph} {
		path, err := graphPath(folder, graph, variant)
		if err != nil {
			return "", err
		}
		files = append(files, path)
		m, err := onnxfile.Open(path, onnxfile.Limits{})
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrFolder, err)
		}
		for _, name := range m.Summary().ExternalFiles {
			files = append(files, filepath.Join(filepath.Dir(path), name))
		}
	}
	for _, name := range configurationFiles {
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			files = append(files, filepath.Join(folder, name))
		}
	}
	all := sha256.New()
	for _, path := range files {
		sum, err := fileDigest(path)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrFolder, err)
		}
		fmt.Fprintf(all, "%s %x\n", filepath.Base(path), sum)
	}
	return "sha256:" + hex.EncodeToString(all.Sum(nil)), nil
}

// configurationFiles are the files that change answers.
var configurationFiles = []string{
	"chat_template.jinja", "chat_template.json", "config.json", "generation_config.json", "merges.txt", "preprocessor_config.json",
	"processor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json",
}

func fileDigest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}
