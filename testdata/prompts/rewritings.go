//go:build ignore

// Rewritings writes rewritings.jsonl.gz: the pairs that `promptmill tiny train` makes of sd_prompts_all.jsonl.gz, for
// recipes that train from the start on without that command.
//
//	go run rewritings.go
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"log"
	"os"
	"path/filepath"

	"github.com/promptmill/promptmill/model/tiny/train"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() (err error) {
	f, err := os.Open("sd_prompts_all.jsonl.gz")
	if err != nil {
		return err
	}
	defer f.Close()
	prompts, err := train.ReadPrompts(f)
	if err != nil {
		return err
	}
	bpe, err := train.Tokenizer(prompts)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rewritings-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := train.WriteInputs(dir, prompts, bpe, 1, 1); err != nil {
		return err
	}
	pairs, err := os.ReadFile(filepath.Join(dir, train.PairsFile))
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = z.Write(pairs)
	if err := errors.Join(err, z.Close()); err != nil {
		return err
	}
	return os.WriteFile("rewritings.jsonl.gz", packed.Bytes(), 0o644)
}
