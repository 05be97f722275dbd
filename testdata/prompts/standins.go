//go:build ignore

// Standins writes beautifulprompt.json and diffusiondb.parquet: small files in the layouts of those two
// data sets, from prompts of sd_prompts.jsonl. They are generated stand-ins for tests of reading and claim
// nothing about the data sets: the scores are hashes, the raw prompts are the beginnings of the prompts.
//
//	go run standins.go
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
)

const rows = 200

type pair struct {
	RawPrompt string  `json:"raw_prompt"`
	Prompt    string  `json:"prompt"`
	Pick      float64 `json:"pick_score"`
	Aesthetic float64 `json:"aesthetic_score"`
}

// metadata has the columns of DiffusionDB's metadata.parquet.
type metadata struct {
	ImageName  string    `parquet:"image_name"`
	Prompt     string    `parquet:"prompt"`
	PartID     uint16    `parquet:"part_id"`
	Seed       uint32    `parquet:"seed"`
	Step       uint16    `parquet:"step"`
	CFG        float32   `parquet:"cfg"`
	Sampler    uint8     `parquet:"sampler"`
	Width      uint16    `parquet:"width"`
	Height     uint16    `parquet:"height"`
	UserName   string    `parquet:"user_name"`
	Timestamp  time.Time `parquet:"timestamp"`
	ImageNSFW  float32   `parquet:"image_nsfw"`
	PromptNSFW float32   `parquet:"prompt_nsfw"`
}

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	data, err := os.ReadFile("sd_prompts.jsonl")
	if err != nil {
		return err
	}
	var pairs []pair
	var meta []metadata
	for line := range bytes.Lines(data) {
		var r struct{ ID, Prompt string }
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		if len(meta) == rows {
			break
		}
		share := func(what string) float64 { return float64(schemas.Seed(0, what, r.ID, 0)) / math.MaxInt32 }
		words := strings.Fields(r.Prompt)
		pairs = append(pairs, pair{
			RawPrompt: strings.Join(words[:min(len(words), 6)], " "), Prompt: r.Prompt,
			Pick: 17 + 6*share("pick"), Aesthetic: 4 + 3*share("aesthetic"),
		})
		nsfw := float32(share("nsfw"))
		if len(meta)%50 == 49 {
			nsfw = 2 // blurred
		}
		meta = append(meta, metadata{
			ImageName: fmt.Sprintf("%08d.png", len(meta)), Prompt: r.Prompt, PartID: 1, Seed: uint32(len(meta)), Step: 50, CFG: 7, Sampler: 8,
			Width: 512, Height: 512, UserName: "stand-in", Timestamp: time.Unix(0, 0).UTC(), ImageNSFW: 0.1, PromptNSFW: nsfw,
		})
	}
	out, err := json.MarshalIndent(pairs, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile("beautifulprompt.json", append(out, '\n'), 0o644); err != nil {
		return err
	}
	return parquet.WriteFile("diffusiondb.parquet", meta, parquet.MaxRowsPerRowGroup(64), parquet.Compression(&parquet.Zstd))
}
