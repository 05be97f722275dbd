package facts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/settings"
)

// AVAConfig says which pairs of AVA's photographs to take.
type AVAConfig struct {
	// Path is AVA.txt.
	Input `yaml:",inline"`
	// Images holds the photographs as ID.jpg.
	Pairs `yaml:",inline"`
}

// DefaultAVA takes pairs at least one point of ten apart. Path, Images, Store and Seed are left to the caller.
func DefaultAVA() AVAConfig {
	return AVAConfig{Input: Input{Name: "ava"}, Pairs: Pairs{MinGap: 1}}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c AVAConfig) Validate() error {
	faults := settings.Of("facts.ava")
	c.Input.check(faults)
	c.Pairs.check(faults)
	return faults.Err()
}

// AVA reads AVA.txt (Murray, Marchesotti and Perronnin, CVPR 2012) and forms pairs of photographs. It
// returns a PCollection<schemas.Fact> of aspect aesthetic without prompts, in no order, the scores being
// means of votes from 1 to 10; a PCollection<schemas.Rejected>; and the PCollection<schemas.Count> of both
// stages. It panics if cfg is not valid.
func AVA(s beam.Scope, cfg AVAConfig) (facts, rejected, counts beam.PCollection) {
	s = s.Scope("facts.AVA")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return scored(s, "ava", TableConfig{Input: cfg.Input, Pairs: cfg.Pairs, Aspect: schemas.Aesthetic})
}

// maxLine is the longest line of a table of text.
const maxLine = 1 << 20

func avaTable(cfg TableConfig) table {
	return func(_ context.Context, yield func(string, string, picture, death) error) error {
		return lines(cfg.Path, func(n int64, line []byte) error {
			p, d := parseAVA(string(line))
			return yield(rowKey(cfg, n), string(line), p, d)
		})
	}
}

// parseAVA reads a line of AVA.txt: its number, the picture's id, how many gave it 1 to 10 points, two
// tags and the challenge.
func parseAVA(line string) (picture, death) {
	f := strings.Fields(line)
	if len(f) != 15 {
		return picture{}, dead(BadRow, "%d fields, not 15", len(f))
	}
	for _, i := range []int{0, 1, 12, 13, 14} {
		if _, err := strconv.ParseUint(f[i], 10, 63); err != nil {
			return picture{}, dead(BadRow, "field %d, %.40q, is not a number", i+1, f[i])
		}
	}
	var votes, points int64
	for i, s := range f[2:12] {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return picture{}, dead(BadRow, "field %d, %.40q, is not a number of votes", i+3, s)
		}
		votes += int64(n)
		points += int64(n) * int64(i+1)
	}
	if votes == 0 {
		return picture{}, dead(BadScore, "nobody voted")
	}
	return picture{id: "ava/" + f[1], name: f[1] + ".jpg", score: float64(points) / float64(votes), votes: votes}, death{}
}

// lines yields the lines of a file that are not blank, with their numbers from 1.
func lines(path string, yield func(n int64, line []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 64<<10)
	for n := int64(1); ; n++ {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := yield(n, bytes.TrimRight(line, "\r\n")); err != nil {
			return err
		}
	}
}

// readLine reads to the next line break. A line without end is no table.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("longer than %d bytes: is this a table of text?", maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
