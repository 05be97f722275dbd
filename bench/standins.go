package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
)

// picture is a stand-in of about seven kilobytes: noise, which no compression makes smaller, unlike any other
// of another name.
func picture(name uint64) ([]byte, error) {
	img := image.NewNRGBA(image.Rect(0, 0, mixturePixels, mixturePixels))
	rng := rand.NewPCG(name, 0x9e3779b97f4a7c15)
	for i := 0; i < len(img.Pix); i += 8 {
		binary.LittleEndian.PutUint64(img.Pix[i:], rng.Uint64())
		img.Pix[i+3], img.Pix[i+7] = 0xff, 0xff
	}
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img)
	return b.Bytes(), err
}

// A pickRow has the columns of Pick-a-Pic version 1 that are read.
type pickRow struct {
	Caption  string  `parquet:"caption,optional"`
	Image0   string  `parquet:"image_0_uid,optional"`
	Image1   string  `parquet:"image_1_uid,optional"`
	JPG0     []byte  `parquet:"jpg_0,optional"`
	JPG1     []byte  `parquet:"jpg_1,optional"`
	Label0   float64 `parquet:"label_0"`
	Label1   float64 `parquet:"label_1"`
	HasLabel bool    `parquet:"has_label,optional"`
	Best     string  `parquet:"best_image_uid,optional"`
	Ranking  int64   `parquet:"ranking_id,optional"`
}

// pickFileRows is how many rows a file of Pick-a-Pic has, about.
const pickFileRows = 1000

// writePickAPic writes n rows in files of the split train; one in twenty is a tie.
func writePickAPic(dir string, n int) error {
	captions, err := prompts()
	if err != nil {
		return err
	}
	count := (n + pickFileRows - 1) / pickFileRows
	for file := range count {
		path := filepath.Join(dir, fmt.Sprintf("train-%05d-of-%05d.parquet", file, count))
		from, to := file*pickFileRows, min((file+1)*pickFileRows, n)
		if err := writePickFile(path, captions, from, to); err != nil {
			return err
		}
	}
	return nil
}

func writePickFile(path string, captions []string, from, to int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := parquet.NewGenericWriter[pickRow](f, parquet.MaxRowsPerRowGroup(100))
	for i := from; i < to; i++ {
		row := pickRow{
			Caption: fmt.Sprintf("%s, number %d", captions[i%len(captions)], i), HasLabel: true, Ranking: int64(i),
			Image0: fmt.Sprintf("%08x-0", i), Image1: fmt.Sprintf("%08x-1", i),
		}
		row.JPG0, err = picture(uint64(2 * i))
		if err == nil {
			row.JPG1, err = picture(uint64(2*i + 1))
		}
		if err != nil {
			return err
		}
		switch {
		case i%20 == 7:
			row.Label0, row.Label1 = 0.5, 0.5
		case i%2 == 0:
			row.Label0, row.Best = 1, row.Image0
		default:
			row.Label1, row.Best = 1, row.Image1
		}
		if _, err := w.Write([]pickRow{row}); err != nil {
			return err
		}
	}
	return w.Close()
}

// writeAVA writes n photographs as AVA.txt and ava.zip; the names of their pictures do not meet those of
// Pick-a-Pic.
func writeAVA(dir string, n int) (err error) {
	table, err := os.Create(filepath.Join(dir, "AVA.txt"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	archive, err := os.Create(filepath.Join(dir, "ava.zip"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	lines, z := bufio.NewWriter(table), zip.NewWriter(archive)
	for i := range n {
		// A hundred votes for one of the points from 2 to 9: neighbours are mostly a point apart.
		votes := make([]int, 10)
		votes[1+i*5%8] = 100
		fmt.Fprintf(lines, "%d %d", i+1, i+1)
		for _, v := range votes {
			fmt.Fprintf(lines, " %d", v)
		}
		fmt.Fprintln(lines, " 1 22 1396")
		entry, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("images/%d.jpg", i+1), Method: zip.Store})
		if err != nil {
			return err
		}
		data, err := picture(1<<40 + uint64(i))
		if err != nil {
			return err
		}
		if _, err := entry.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(lines.Flush(), z.Close())
}
