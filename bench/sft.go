package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	_ "github.com/duckdb/duckdb-go/v2" // the other tool, in its own process
	"golang.org/x/text/unicode/norm"
)

// pairRows is the size of the paper's rewrite set. The rows are stand-ins generated from real
// prompts: the count claims nothing about BeautifulPrompt itself.
const pairRows = 104_487

// benchSFT turns 104,487 rewrite pairs into committed Parquet with `promptmill sft`, and DuckDB into
// Parquet files by the same rules.
func benchSFT(ctx context.Context, bin, dir string) error {
	in := filepath.Join(dir, "pairs.jsonl")
	if err := writePairs(in, pairRows); err != nil {
		return err
	}
	recipe := filepath.Join(dir, "sft.yaml")
	text := fmt.Sprintf(`extends: paper
name: bench-sft
pairs:
  inputs:
    - {name: pairs, path: %s, columns: {raw: raw_prompt}}
heldout: {benchmarks: []}
sft: {parts: [rewrite]}
# The gate is not measured: one row in a hundred is empty on purpose.
gates: {max_dead_fraction: 0.05}
`, in)
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		return err
	}
	out, ours, err := measured(exec.CommandContext(ctx, bin, "sft", "--recipe", recipe, "--out", filepath.Join(dir, "sft"), "--json"))
	if err != nil {
		return err
	}
	var got struct {
		Rows map[string]int64 `json:"rows"`
	}
	if err := json.Unmarshal(lastLine(out), &got); err != nil {
		return fmt.Errorf("summary of sft: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, duck, err := measured(exec.CommandContext(ctx, self, "duckdb", in, filepath.Join(dir, "duckdb")))
	if err != nil {
		return err
	}
	var duckRows int64
	if _, err := fmt.Sscan(string(lastLine(out)), &duckRows); err != nil {
		return fmt.Errorf("rows of duckdb: %w", err)
	}
	fmt.Printf("sft: %d rewrite pairs to Parquet (validate, NFC, duplicates, chat rows, shuffle, split, zstd)\n", pairRows)
	fmt.Printf("  %-22s %8s %10s %8s %8s %9s\n", "", "rows out", "rows/s", "wall s", "CPU s", "peak MB")
	row := func(name string, rows int64, c cost) {
		fmt.Printf("  %-22s %8d %10.0f %8.2f %8.2f %9.0f\n", name, rows, pairRows/c.wall.Seconds(), c.wall.Seconds(), c.cpu.Seconds(), c.rssMB)
	}
	row("promptmill (committed)", got.Rows["rewrite"], ours)
	row("DuckDB (files only)", duckRows, duck)
	fmt.Printf("  ratio, promptmill / DuckDB: wall %.2f, CPU %.2f, memory %.2f\n\n",
		ours.wall.Seconds()/duck.wall.Seconds(), ours.cpu.Seconds()/duck.cpu.Seconds(), ours.rssMB/duck.rssMB)
	return nil
}

// lastLine is the last line that is not empty.
func lastLine(out []byte) []byte {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return []byte(lines[len(lines)-1])
}

// prompts are the real prompts of the repository.
func prompts() ([]string, error) {
	f, err := os.Open("testdata/prompts/sd_prompts_all.jsonl.gz")
	if err != nil {
		return nil, fmt.Errorf("%w: run from the root of the repository", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	var out []string
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		var row struct {
			Prompt string `json:"prompt"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return nil, err
		}
		out = append(out, row.Prompt)
	}
	return out, lines.Err()
}

// writePairs writes n generated pairs of about 350 bytes: 1% empty, 2% duplicates, 3% with odd white
// space or in NFD, so that every rule has work.
func writePairs(path string, n int) error {
	base, err := prompts()
	if err != nil {
		return err
	}
	words := []string{
		"cinematic light", "golden hour", "highly detailed", "sharp focus", "wide shot", "soft shadow",
		"volumetric mist", "intricate", "warm palette", "35mm lens", "café", "naïve",
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		k := i
		if i%50 == 0 {
			k = i / 2
		}
		raw := fmt.Sprintf("%s v%d", head(base[k%len(base)], 160), k/len(base))
		sum := sha256.Sum256([]byte(raw))
		rewritten := "A picture of " + head(raw, 90)
		for _, b := range sum[:6] {
			rewritten += ", " + words[int(b)%len(words)]
		}
		switch {
		case i%200 == 37:
			rewritten = "  "
		case i%100 == 37:
			rewritten = ""
		}
		if i%33 == 5 {
			raw = "  " + strings.Replace(raw, " ", "  ", 3) + "\t"
			rewritten = norm.NFD.String(rewritten)
		}
		line, err := json.Marshal(map[string]string{"id": fmt.Sprintf("r%07d", i), "raw_prompt": raw, "rewritten": rewritten})
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return w.Flush()
}

// head is at most the first n runes of s.
func head(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// duckdbChild does the work of benchSFT in DuckDB SQL and prints the number of rows it wrote.
func duckdbChild(ctx context.Context, in, out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer db.Close()
	clean := `trim(regexp_replace(nfc_normalize(%s), '\s+', ' ', 'g'))`
	stmts := []string{
		fmt.Sprintf(`CREATE TEMP TABLE a AS SELECT row_number() OVER () rn, id, %s raw, %s rew FROM read_json('%s',
			format='newline_delimited', columns={id:'VARCHAR', raw_prompt:'VARCHAR', rewritten:'VARCHAR'}, maximum_object_size=1000000)`,
			fmt.Sprintf(clean, "raw_prompt"), fmt.Sprintf(clean, "rewritten"), in),
		`CREATE TEMP TABLE b AS SELECT id, raw, rew, sha256('shuffle:42:'||raw) k,
			(('0x'||substr(sha256('split:'||raw),1,8))::UBIGINT % 100) < 2 val
			FROM (SELECT *, row_number() OVER (PARTITION BY raw ORDER BY rn) d FROM a WHERE raw<>'' AND rew<>'') WHERE d=1`,
	}
	for split, where := range map[string]string{"train": "NOT val", "validation": "val"} {
		stmts = append(stmts, fmt.Sprintf(`COPY (SELECT id, [{'role':'user','content':raw},{'role':'assistant','content':rew}] messages
			FROM b WHERE %s ORDER BY k) TO '%s' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10000)`,
			where, filepath.Join(out, split+".parquet")))
	}
	for _, s := range stmts {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("duckdb: %w", err)
		}
	}
	var n int64
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM b").Scan(&n); err != nil {
		return err
	}
	fmt.Println(n)
	return nil
}
