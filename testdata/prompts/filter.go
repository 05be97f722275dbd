//go:build ignore

// Filter makes samples of prompts from the file they come from, in a folder of their own:
//
//	go run filter.go sd_prompts.jsonl DIR
//
// It replaces no file: where DIR has one of its outputs already it stops.
//
// It leaves out prompts with an entry of blocked.txt (sexual or violent words, living persons), writes
// what remains, in its order, to sd_prompts_all.jsonl.gz, and the 2,000 of lowest rank (schemas.Rank, seed
// 0), in the order of rank, to sd_prompts.jsonl; the first phrase and the whole of a thousand of them are
// pairs.jsonl. It prints how many went for what.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/schemas"
)

const (
	sampleSize = 2000
	pairCount  = 1000
)

type row struct {
	ID     string `json:"id"`
	Prompt string `json:"prompt"`
}

type pair struct {
	ID        string `json:"id"`
	Raw       string `json:"raw"`
	Rewritten string `json:"rewritten"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: go run filter.go sd_prompts.jsonl DIR")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(path, dir string) error {
	sections, blocked, err := readBlocked("blocked.txt")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var kept []row
	gone := map[string]int{}
	read := 0
	for line := range bytes.Lines(data) {
		var r row
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		read++
		if i := slices.IndexFunc(blocked, func(re *regexp.Regexp) bool { return re.MatchString(fold(r.Prompt)) }); i >= 0 {
			gone[sections[i]]++
			continue
		}
		kept = append(kept, r)
	}
	if len(kept) < sampleSize {
		return fmt.Errorf("only %d prompts are left of %d", len(kept), read)
	}
	var all bytes.Buffer
	z, err := gzip.NewWriterLevel(&all, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := errors.Join(write(z, kept), z.Close()); err != nil {
		return err
	}
	sample := slices.Clone(kept)
	slices.SortFunc(sample, func(a, b row) int {
		return cmp.Compare(schemas.Rank(0, schemas.PromptID(a.Prompt)), schemas.Rank(0, schemas.PromptID(b.Prompt)))
	})
	var some bytes.Buffer
	if err := write(&some, sample[:sampleSize]); err != nil {
		return err
	}
	var pairs bytes.Buffer
	enc := json.NewEncoder(&pairs)
	enc.SetEscapeHTML(false)
	for n := 0; n < pairCount && len(sample) > 0; sample = sample[1:] {
		raw, _, ok := strings.Cut(sample[0].Prompt, ",")
		if raw = strings.TrimSpace(raw); !ok || len(raw) <= 8 {
			continue
		}
		if err := enc.Encode(pair{sample[0].ID, raw, sample[0].Prompt}); err != nil {
			return err
		}
		n++
	}
	fmt.Printf("%d read, %d kept, left out: %v\n", read, len(kept), gone)
	return errors.Join(
		create(filepath.Join(dir, "sd_prompts_all.jsonl.gz"), all.Bytes()),
		create(filepath.Join(dir, "sd_prompts.jsonl"), some.Bytes()),
		create(filepath.Join(dir, "pairs.jsonl"), pairs.Bytes()),
	)
}

func create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func write(w interface{ Write([]byte) (int, error) }, rows []row) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return b.Flush()
}

var notWord = regexp.MustCompile(`[^\p{L}\p{N}]+`)

func fold(s string) string { return " " + notWord.ReplaceAllString(strings.ToLower(s), " ") + " " }

// readBlocked returns one expression per section of the file, and the sections' names.
func readBlocked(path string) (sections []string, blocked []*regexp.Regexp, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	entries := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			sections = append(sections, strings.Trim(line, "[]"))
		case len(sections) == 0:
			return nil, nil, fmt.Errorf("%s: %q is in no section", path, line)
		default:
			for e := range strings.SplitSeq(line, ",") {
				e = regexp.QuoteMeta(strings.TrimSpace(e))
				e = strings.ReplaceAll(e, `\*`, `\S*`)
				name := sections[len(sections)-1]
				entries[name] = append(entries[name], e)
			}
		}
	}
	for _, name := range sections {
		re, err := regexp.Compile(` (?:` + strings.Join(entries[name], "|") + `) `)
		if err != nil {
			return nil, nil, err
		}
		blocked = append(blocked, re)
	}
	return sections, blocked, nil
}
