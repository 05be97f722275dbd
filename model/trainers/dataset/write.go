package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"iter"
	"net/http"
	"path"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// A WriteConfig says where Write puts its files.
type WriteConfig struct {
	Format Format
	// Folder is the folder in the store, "" for its root; Split is the folder of the rows below it.
	Folder, Split string
	// ShardRows is how many rows a file holds; 0 is no limit.
	ShardRows int64
}

// Written is what Write wrote.
type Written struct {
	// Files hold the rows, in order; Pictures counts the picture files, each distinct picture once.
	Files    []File
	Pictures int
	// Rows counts rows; Preference and Vision are their shape.
	Rows               int64
	Preference, Vision bool
}

// A File is one file of rows.
type File struct {
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Write writes rows as SPLIT/00000.jsonl (.json for LLaVA) and so on, and their pictures as
// images/SHA256.png (or jpg, webp, gif), which the rows name relative to Folder. Rows are streamed: one at a time is in
// memory. Each file appears whole or not at all; writing the same rows again changes nothing. No rows at
// all is an error.
func Write(ctx context.Context, st store.Store, cfg WriteConfig, rows iter.Seq2[Row, error]) (Written, error) {
	w := writer{ctx: ctx, store: st, cfg: cfg, pictures: map[string]bool{}}
	defer w.abort()
	for row, err := range rows {
		if err == nil {
			err = w.add(row)
		}
		if err != nil {
			return Written{}, err
		}
	}
	if err := w.close(); err != nil {
		return Written{}, err
	}
	if w.Rows == 0 {
		return Written{}, errors.New("training data: no rows to write")
	}
	w.Pictures = len(w.pictures)
	return w.Written, nil
}

type writer struct {
	Written
	ctx      context.Context
	store    store.Store
	cfg      WriteConfig
	pictures map[string]bool

	// file is nil between shards.
	file   store.Writer
	digest hash.Hash
	open   File
}

func (w *writer) add(row Row) error {
	names := make([]string, len(row.Images))
	if w.cfg.Format != OpenAI {
		for i, image := range row.Images {
			var err error
			if names[i], err = w.picture(image); err != nil {
				return fmt.Errorf("%s: picture %d: %w", row, i, err)
			}
		}
	}
	line, err := Encode(w.cfg.Format, row, names)
	if err != nil {
		return err
	}
	if w.file != nil && w.cfg.ShardRows > 0 && w.open.Rows == w.cfg.ShardRows {
		if err := w.close(); err != nil {
			return err
		}
	}
	if w.file == nil {
		if err := w.create(); err != nil {
			return err
		}
	}
	before, after := "", "\n"
	if w.cfg.Format == LLaVA {
		if before, after = ",\n", ""; w.open.Rows == 0 {
			before = "[\n"
		}
	}
	w.Rows++
	w.open.Rows++
	w.Preference, w.Vision = row.Preference, row.Vision
	return w.write(before + string(line) + after)
}

func (w *writer) create() (err error) {
	ending := ".jsonl"
	if w.cfg.Format == LLaVA {
		ending = ".json"
	}
	w.open = File{Name: path.Join(w.cfg.Folder, w.cfg.Split, fmt.Sprintf("%05d", len(w.Files))+ending)}
	w.digest = sha256.New()
	w.file, err = w.store.Create(w.ctx, w.open.Name)
	return err
}

func (w *writer) write(s string) error {
	n, err := w.file.Write([]byte(s))
	w.open.Bytes += int64(n)
	w.digest.Write([]byte(s))
	if err != nil {
		return fmt.Errorf("write %s: %w", w.open.Name, err)
	}
	return nil
}

// close ends the file that is open, if any.
func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	if w.cfg.Format == LLaVA {
		if err := w.write("\n]\n"); err != nil {
			return err
		}
	}
	if err := w.file.Commit(); err != nil {
		if errors.Is(err, store.ErrExists) {
			err = fmt.Errorf("%w; other rows were written there before: choose an empty folder", err)
		}
		return fmt.Errorf("write %s: %w", w.open.Name, err)
	}
	w.open.SHA256 = hex.EncodeToString(w.digest.Sum(nil))
	w.Files, w.file = append(w.Files, w.open), nil
	return nil
}

func (w *writer) abort() {
	if w.file != nil {
		w.file.Abort()
	}
}

var endings = map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}

// picture writes a picture once and returns its name relative to the folder.
func (w *writer) picture(image schemas.Image) (string, error) {
	ending, known := endings[http.DetectContentType(image.Bytes)]
	if !known {
		return "", fmt.Errorf("%w: its bytes are no PNG, JPEG, WebP or GIF", ErrFormat)
	}
	sum := sha256.Sum256(image.Bytes)
	name := "images/" + hex.EncodeToString(sum[:]) + ending
	if w.pictures[name] {
		return name, nil
	}
	w.pictures[name] = true
	return name, w.store.PutIfAbsent(w.ctx, path.Join(w.cfg.Folder, name), image.Bytes)
}

// Info is the entry of a set in LLaMA-Factory's dataset_info.json.
type Info struct {
	FileName   string            `json:"file_name"`
	Formatting string            `json:"formatting"`
	Ranking    bool              `json:"ranking,omitempty"`
	Columns    map[string]string `json:"columns"`
}

// Info returns the entry for what was written under split.
func (w Written) Info(split string) Info {
	i := Info{FileName: split, Formatting: "sharegpt", Ranking: w.Preference, Columns: map[string]string{"messages": "conversations"}}
	if w.Preference {
		i.Columns["chosen"], i.Columns["rejected"] = "chosen", "rejected"
	}
	if w.Vision {
		i.Columns["images"] = "images"
	}
	return i
}

// WriteInfo writes dataset_info.json into folder: the names by which LLaMA-Factory's --dataset finds sets.
func WriteInfo(ctx context.Context, st store.Store, folder string, sets map[string]Info) error {
	data, err := json.MarshalIndent(sets, "", "  ")
	if err != nil {
		return err
	}
	return st.PutIfAbsent(ctx, path.Join(folder, "dataset_info.json"), append(data, '\n'))
}
