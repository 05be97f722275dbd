package train

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/testdata"
)

var realPrompts = sync.OnceValues(func() ([]Prompt, error) {
	f, err := testdata.Files.Open("prompts/sd_prompts_all.jsonl.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadPrompts(f)
})

var realBPE = sync.OnceValues(func() (*BPE, error) {
	prompts, err := realPrompts()
	if err != nil {
		return nil, err
	}
	return Tokenizer(prompts)
})

// Load returns all prompts that come with promptmill, and the tokenizer that they give.
func Load(t *testing.T) ([]Prompt, *BPE) {
	t.Helper()
	prompts, err := realPrompts()
	if err != nil {
		t.Fatal(err)
	}
	bpe, err := realBPE()
	if err != nil {
		t.Fatal(err)
	}
	return prompts, bpe
}

// Sample are rows of the supervised set that the committed weights were trained on the like of: cmd/promptmill's TestTinyRows
// builds them.
func Sample(t *testing.T) (rows Rows) {
	t.Helper()
	if err := json.Unmarshal(unpacked(t, os.DirFS("testdata"), "rows.json.gz"), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// unpacked is what is in a gzip file.
func unpacked(t *testing.T, files fs.FS, name string) []byte {
	t.Helper()
	f, err := files.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
