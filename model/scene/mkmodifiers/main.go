// Command mkmodifiers counts the modifiers of real prompts for the rewriter of package scene: how many
// prompts of each category have them.
//
//	go run ./model/scene/mkmodifiers sd_prompts.jsonl model/scene/data/modifiers.tsv
//
// The committed table comes from 9,634 prompts that people typed into Stable Diffusion: ImageReward's
// data/refl_data.json, whose prompts are from DiffusionDB (CC0), one JSON object {"id", "prompt"} a
// line. Modifiers that are sexual or violent, that name a person who is not an artist, or that are
// rarer than 8 prompts are left out.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/scene"
)

const (
	rarest  = 8  // prompts that must have a modifier
	longest = 60 // bytes of a modifier: what is longer is a sentence
)

// unwanted modifiers: sexual or violent, about bodies, persons, other works' credits, or torn out of a
// sentence by its commas.
var unwanted = regexp.MustCompile(`\b(sensual|sexy|seductive|erotic|nude|naked|naturel|hourglass|slim|curvy|wet|attractive|pretty|lips|skin|freckles|smile|smiling|hair|eyes|elvgren|sorayama|loftis|horror|terrifying|lovecraftian|veins|anatomical|anatomically|yomamoto|furaffinity|gore|blood|bloody|war|battle|weapon|gun|sword|dead|death|evil|skull|fire|kill|muscles|muscular|upper body|head|male|female|woman|girl|hints of|ossdraws|props|microchip|malveda|ravelo|cronobreaker)\b|^(and|with|no|by the|in the middle) |^\w$`)

// A row counts the prompts that have a modifier.
type row struct {
	modifier string
	total    int
	of       [scene.Categories]int
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mkmodifiers prompts.jsonl modifiers.tsv")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "mkmodifiers:", err)
		os.Exit(1)
	}
}

func run(in, out string) error {
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	rows := map[string]*row{}
	var lengths [8]int
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var p struct{ Prompt string }
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("%s:%d: %w", in, n, err)
		}
		if k := count(p.Prompt, rows); k > 0 {
			lengths[min(k, len(lengths))-1]++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", in, err)
	}
	fmt.Println("prompts with 1 to 7, and 8 or more modifiers:", lengths)
	return os.WriteFile(out, table(rows), 0o644)
}

// count adds a prompt's modifiers to rows, each once, and returns how many it has.
func count(prompt string, rows map[string]*row) int {
	segments := scene.Segments(scene.Normalize(prompt))
	if len(segments) < 2 {
		return 0
	}
	category, _ := scene.Subject(segments[0])
	seen := map[string]bool{}
	n := 0
	for _, m := range segments[1:] {
		if len(m) > longest {
			continue
		}
		n++
		if seen[m] || unwanted.MatchString(m) {
			continue
		}
		seen[m] = true
		r := rows[m]
		if r == nil {
			r = &row{modifier: m}
			rows[m] = r
		}
		r.total++
		r.of[category]++
	}
	return n
}

// table writes the rows, the most frequent first.
func table(rows map[string]*row) []byte {
	var kept []*row
	for _, r := range rows {
		if r.total >= rarest {
			kept = append(kept, r)
		}
	}
	slices.SortFunc(kept, func(a, b *row) int {
		if d := b.total - a.total; d != 0 {
			return d
		}
		return strings.Compare(a.modifier, b.modifier)
	})
	var buf bytes.Buffer
	buf.WriteString("modifier")
	for c := range scene.Category(scene.Categories) {
		fmt.Fprintf(&buf, "\t%s", c)
	}
	for _, r := range kept {
		fmt.Fprintf(&buf, "\n%s", r.modifier)
		for _, n := range r.of {
			fmt.Fprintf(&buf, "\t%d", n)
		}
	}
	buf.WriteByte('\n')
	return buf.Bytes()
}
