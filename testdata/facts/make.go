//go:build ignore

// Make writes small files in the exact layouts of the data sets that hold people's opinions of pictures:
//
//	go run make.go
//
// They are generated stand-ins for tests of reading and claim nothing about the data sets: the pictures are
// those of the procedural world (model/scene), the opinions are hashes. It replaces the files beside it; equal
// sources give equal files, but for the version of SQLite in its own.
package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"github.com/parquet-go/parquet-go"
	_ "modernc.org/sqlite"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
)

// prompts are what the pictures of Pick-a-Pic and SAC show.
var prompts = []string{
	"a red fox in the snow", "castle by the sea", "portrait of a robot", "a bowl of fruit", "city at night, rain",
	"a lighthouse in a storm", "an old tree on a hill", "a dragon over mountains",
}

func main() {
	log.SetFlags(0)
	for _, make := range []func() error{pickapic, ava, sac, scores} {
		if err := make(); err != nil {
			log.Fatal(err)
		}
	}
}

// hash is a number of 0 to n-1.
func hash(what string, n int) int { return int(schemas.Seed(5, "testdata.facts", what, 0)) % n }

// shot is a JPEG of 32 x 32 pixels.
func shot(prompt string, seed int64) ([]byte, error) {
	data, err := scene.Draw(prompt, seed).PNG(scene.Side, scene.Side)
	if err != nil {
		return nil, err
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = jpeg.Encode(&out, img, &jpeg.Options{Quality: 85})
	return out.Bytes(), err
}

// A pick has the columns of pickapic_v1, in its order, as pandas and pyarrow write them.
type pick struct {
	AreDifferent     *bool      `parquet:"are_different,optional"`
	BestImageUID     *string    `parquet:"best_image_uid,optional"`
	Caption          *string    `parquet:"caption,optional"`
	CreatedAt        *time.Time `parquet:"created_at,optional,timestamp(nanosecond)"`
	HasLabel         *bool      `parquet:"has_label,optional"`
	Image0UID        *string    `parquet:"image_0_uid,optional"`
	Image0URL        *string    `parquet:"image_0_url,optional"`
	Image1UID        *string    `parquet:"image_1_uid,optional"`
	Image1URL        *string    `parquet:"image_1_url,optional"`
	JPG0             []byte     `parquet:"jpg_0,optional"`
	JPG1             []byte     `parquet:"jpg_1,optional"`
	Label0           *float64   `parquet:"label_0,optional"`
	Label1           *float64   `parquet:"label_1,optional"`
	Model0           *string    `parquet:"model_0,optional"`
	Model1           *string    `parquet:"model_1,optional"`
	RankingID        *int64     `parquet:"ranking_id,optional"`
	UserID           *int64     `parquet:"user_id,optional"`
	ExamplePerPrompt *int64     `parquet:"num_example_per_prompt,optional"`
	Index            *int64     `parquet:"__index_level_0__,optional"`
}

// pickapic writes two files of the training split, of 16 and 8 rows in groups of 4, and one of
// validation_unique; the second has no page index. Every sixth row is a tie, every eighth has no label.
func pickapic() error {
	next := 0
	for _, file := range []struct {
		name string
		rows int
	}{{"train-00000-of-00002.parquet", 16}, {"train-00001-of-00002.parquet", 8}, {"validation_unique-00000-of-00001.parquet", 6}} {
		var rows []pick
		for range file.rows {
			row, err := pickRow(next)
			if err != nil {
				return err
			}
			rows = append(rows, row)
			next++
		}
		var out bytes.Buffer
		w := parquet.NewGenericWriter[pick](&out, parquet.MaxRowsPerRowGroup(4), parquet.Compression(&parquet.Snappy), parquet.CreatedBy("promptmill", "", ""),
			parquet.DataPageStatistics(false), parquet.SkipPageBounds("jpg_0"), parquet.SkipPageBounds("jpg_1"))
		if _, err := w.Write(rows); err != nil {
			return err
		}
		if err := errors.Join(w.Close(), write("pickapic/"+file.name, out.Bytes())); err != nil {
			return err
		}
	}
	return withoutIndex("pickapic/train-00001-of-00002.parquet")
}

// withoutIndex has DuckDB write a Parquet file anew: like pyarrow's, its files have no page index.
func withoutIndex(name string) error {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(fmt.Sprintf("COPY (FROM '%s') TO '%[1]s.new' (FORMAT parquet)", name)); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func pickRow(i int) (row pick, err error) {
	caption := prompts[i%len(prompts)]
	uid := func(side int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", i, side) }
	label, labelled := float64(hash(fmt.Sprint("label", i), 2)), i%8 != 7
	best := uid(1 - int(label))
	if i%6 == 5 {
		label, best = .5, "none"
	}
	other, differ := 1-label, label != .5
	if !labelled {
		label, other, best = .5, .5, "none"
	}
	at := time.Date(2023, 3, 1, 0, i, 0, 0, time.UTC)
	id, user, per := int64(100+i), int64(7+i%3), int64(1)
	models := [2]string{"stabilityai/stable-diffusion-2-1", "stabilityai/stable-diffusion-xl-beta-v2-2-2"}
	uids := [2]string{uid(0), uid(1)}
	urls := [2]string{"https://text-to-image-human-preferences.example/" + uids[0] + ".png", "https://text-to-image-human-preferences.example/" + uids[1] + ".png"}
	row = pick{
		AreDifferent: &differ, BestImageUID: &best, Caption: &caption, CreatedAt: &at, HasLabel: &labelled,
		Image0UID: &uids[0], Image0URL: &urls[0], Image1UID: &uids[1], Image1URL: &urls[1], Label0: &label, Label1: &other,
		Model0: &models[0], Model1: &models[1], RankingID: &id, UserID: &user, ExamplePerPrompt: &per, Index: &id,
	}
	if row.JPG0, err = shot(caption, int64(2*i)); err != nil {
		return row, err
	}
	row.JPG1, err = shot(caption+", highly detailed, vivid", int64(2*i+1))
	return row, err
}

// photos are the ids of AVA's stand-ins.
func photos() (ids []int) {
	for i := range 24 {
		ids = append(ids, 953600+7*i)
	}
	return ids
}

// ava writes AVA.txt and its photographs, ID.jpg in a folder of an archive.
func ava() error {
	var table, archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for i, id := range photos() {
		fmt.Fprintf(&table, "%d %d", i+1, id)
		centre := 2 + hash(fmt.Sprint("centre", id), 6)
		for points := range 10 {
			fmt.Fprintf(&table, " %d", max(0, 60-25*(points-centre)*(points-centre)/2)+hash(fmt.Sprint("votes", id, points), 5))
		}
		fmt.Fprintf(&table, " %d %d %d\n", 1+i%66, (i%3)*22, 1396+i%5)
		data, err := shot(prompts[i%len(prompts)], int64(id))
		if err != nil {
			return err
		}
		f, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("images/%d.jpg", id), Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(z.Close(), write("ava/AVA.txt", table.Bytes()), write("ava/images.zip", archive.Bytes()))
}

// sac writes the SQLite file, with the tables and columns that readers of the set use, and a tar file of
// its pictures.
func sac() error {
	const path = "sac/sac_public_2022_06_29.sqlite"
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll("sac", 0o777); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	_, err = tx.Exec(`
CREATE TABLE generations (id INTEGER PRIMARY KEY, sid TEXT, method INTEGER, prompt TEXT, verified INTEGER);
CREATE TABLE images (id INTEGER PRIMARY KEY, gid INTEGER, idx INTEGER);
CREATE TABLE ratings (sid TEXT, iid INTEGER, rating INTEGER, verified INTEGER);
CREATE TABLE paths (iid INTEGER, path TEXT);
CREATE TABLE upscales (iid INTEGER, method INTEGER);`)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for g, prompt := range prompts[:4] {
		if _, err := tx.Exec("INSERT INTO generations VALUES (?, ?, ?, ?, 1)", g+1, "s", 2+g%2, prompt); err != nil {
			return err
		}
		for i := range 5 {
			id := 10*g + i + 1
			name := fmt.Sprintf("%d_%s_%d.jpg", g+1, strings.ReplaceAll(prompt, " ", "_"), i)
			if _, err := tx.Exec("INSERT INTO images VALUES (?, ?, ?)", id, g+1, i); err != nil {
				return err
			}
			if _, err := tx.Exec("INSERT INTO paths VALUES (?, ?)", id, name); err != nil {
				return err
			}
			for r := range hash(fmt.Sprint("ratings", id), 3) + 1 {
				if _, err := tx.Exec("INSERT INTO ratings VALUES (?, ?, ?, 1)", fmt.Sprint("s", r), id, 1+(hash(fmt.Sprint("mean", id), 8)+r)%10); err != nil {
					return err
				}
			}
			data, err := shot(prompt, int64(1000+id))
			if err != nil {
				return err
			}
			if err := tw.WriteHeader(&tar.Header{Name: "sac-000000/" + name, Mode: 0o644, Size: int64(len(data))}); err != nil {
				return err
			}
			if _, err := tw.Write(data); err != nil {
				return err
			}
		}
	}
	return errors.Join(tx.Commit(), db.Close(), tw.Close(), write("sac/sac-000000.tar", archive.Bytes()))
}

type score struct {
	Image  string  `json:"file" parquet:"file"`
	Score  float64 `json:"mos" parquet:"mos"`
	Prompt string  `json:"text" parquet:"text"`
}

// scores writes one table of AVA's photographs in four formats: file, mos, text. Text is one of two.
func scores() error {
	var rows []score
	csv, tsv, jsonl := "file,mos,text\n", "file\tmos\ttext\n", ""
	for i, id := range photos()[:12] {
		r := score{fmt.Sprintf("images/%d.jpg", id), float64(hash(fmt.Sprint("mos", id), 500)) / 100, prompts[4*(i%2)]}
		rows = append(rows, r)
		csv += fmt.Sprintf("%s,%.2f,%q\n", r.Image, r.Score, r.Prompt)
		tsv += fmt.Sprintf("%s\t%.2f\t%s\n", r.Image, r.Score, r.Prompt)
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		jsonl += string(line) + "\n"
	}
	var out bytes.Buffer
	w := parquet.NewGenericWriter[score](&out, parquet.MaxRowsPerRowGroup(5), parquet.CreatedBy("promptmill", "", ""))
	if _, err := w.Write(rows); err != nil {
		return err
	}
	return errors.Join(w.Close(), write("table/scores.csv", []byte(csv)), write("table/scores.tsv", []byte(tsv)),
		write("table/scores.jsonl", []byte(jsonl)), write("table/scores.parquet", out.Bytes()))
}

func write(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o666)
}
