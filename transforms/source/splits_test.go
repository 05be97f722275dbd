package source_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"

	"github.com/promptmill/promptmill/transforms/source"
)

// However the ranges are cut, before or while they are read, no record is lost or read twice.
func TestSplits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, format := range []string{source.JSONL, source.TSV, source.Text, source.Parquet} {
		t.Run(format, func(t *testing.T) {
			for range 300 {
				var data []byte
				if format == source.Parquet {
					rows := make([]row, rng.IntN(20)+1)
					for i := range rows {
						rows[i] = row{ID: fmt.Sprint(i), Prompt: strings.Repeat("p", rng.IntN(30))}
					}
					data = encode(t, format, rows)
				} else {
					data = randomLines(rng, format)
				}
				limit := 8 + rng.IntN(60)
				want, err := source.Ranges(format, data, nil, limit, 0)
				if err != nil {
					t.Fatal(err)
				}
				units := len(data)
				if format == source.Parquet {
					units = (len(want) + 2) / 3
				}
				var cuts []int64
				for range rng.IntN(6) {
					cuts = append(cuts, int64(rng.IntN(units+1)))
				}
				slices.Sort(cuts)
				got, err := source.Ranges(format, data, slices.Compact(cuts), limit, rng.IntN(4))
				if err != nil {
					t.Fatalf("cuts %v: %v", cuts, err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("cuts %v of %q (-whole +cut)\n%s", cuts, data, diff)
				}
			}
		})
	}
}

func randomLines(rng *rand.Rand, format string) []byte {
	var b bytes.Buffer
	if rng.IntN(3) == 0 {
		b.WriteString("\xef\xbb\xbf")
	}
	if format == source.TSV {
		b.WriteString("prompt\n")
	}
	for i := range 1 + rng.IntN(12) {
		line := fmt.Sprintf("%d %s", i, strings.Repeat("é", rng.IntN(30)))
		switch {
		case rng.IntN(5) == 0:
			line = ""
		case format == source.JSONL:
			line = fmt.Sprintf(`{"prompt":%q}`, line)
		}
		b.WriteString(line + []string{"\n", "\r\n"}[rng.IntN(2)])
	}
	b.WriteString([]string{"", "x"}[rng.IntN(2)])
	return b.Bytes()
}

// Lines of any bytes: cutting them anywhere gives the same rows.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n\xff\nccc"), uint16(2), uint16(4))
	f.Add([]byte("\xef\xbb\xbf{\"prompt\":\"x\"}\n{\"prompt\":1}"), uint16(3), uint16(100))
	f.Fuzz(func(t *testing.T, data []byte, cut, limit uint16) {
		if len(data) < 2 {
			return
		}
		at := int64(cut) % int64(len(data))
		for _, format := range []string{source.JSONL, source.Text} {
			whole, err := source.Ranges(format, data, nil, int(limit)+1, 0)
			if err != nil {
				t.Fatal(err)
			}
			parts, err := source.Ranges(format, data, []int64{at}, int(limit)+1, 1)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(whole, parts); diff != "" {
				t.Fatalf("cut at %d (-whole +cut)\n%s", at, diff)
			}
		}
	})
}

// What encoding/csv reads without complaint is read the same here.
func FuzzCSV(f *testing.F) {
	f.Add([]byte("id,prompt\n1,\"a, \"\"b\"\"\nc\"\n2,d"))
	f.Add([]byte("prompt\n\"x\"y\n\"open\nz\n"))
	f.Add([]byte("\xef\xbb\xbfprompt\r\n\"a\r\n\"\r\nb\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := source.Ranges(source.CSV, data, nil, 1<<20, 0)
		r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
		want, wantErr := r.ReadAll()
		// A lone carriage return, and lines of white space only, are where the two differ by intent.
		clean := utf8.Valid(data) && !bytes.Contains(bytes.ReplaceAll(data, []byte("\r\n"), nil), []byte("\r"))
		for _, line := range bytes.Split(data, []byte("\n")) {
			clean = clean && (len(bytes.TrimSuffix(line, []byte("\r"))) == 0 || len(bytes.TrimSpace(line)) > 0)
		}
		if err != nil || wantErr != nil || !clean || len(want) == 0 {
			return
		}
		col := slices.Index(want[0], "prompt")
		var a, b []string
		for _, rec := range want[1:] {
			a = append(a, rec[col])
		}
		for _, row := range got {
			if row.Reason != "" {
				t.Fatalf("row %+v of a good file", row)
			}
			b = append(b, strings.ReplaceAll(row.Text, "\r\n", "\n"))
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("(-encoding/csv +got)\n%s", diff)
		}
	})
}

// What encoding/json decodes is decoded the same here.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"id": 7, "x":{"prompt":["}",{}]}, "pr\u006fmpt" : "a\n\"b\u00e9" }`))
	f.Add([]byte(`{"prompt":"x","prompt":"y"}`))
	f.Add([]byte(`{"prompt":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		line := bytes.ReplaceAll(data, []byte("\n"), []byte(" "))
		if len(bytes.TrimSpace(line)) == 0 || !utf8.Valid(line) || bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) {
			return
		}
		rows, err := source.Ranges(source.JSONL, line, nil, 1<<20, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 { // other white space only
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(line, &object); err != nil || object == nil {
			if rows[0].Reason != source.BadJSON {
				t.Fatalf("%+v, want bad_json: %v", rows[0], err)
			}
		} else if raw, ok := object["prompt"]; !ok {
			if rows[0].Reason != source.MissingColumn {
				t.Fatalf("%+v, want missing_column", rows[0])
			}
		} else if raw[0] == '"' {
			var want string
			if err := json.Unmarshal(raw, &want); err != nil || want != rows[0].Text {
				t.Fatalf("%q, want %q %v", rows[0].Text, want, err)
			}
		}
		// The same object inside an array.
		in := slices.Concat([]byte("["), line, []byte(", "), line, []byte("]"))
		if json.Valid(line) {
			rows, err := source.Ranges(source.JSON, in, nil, 1<<20, 0)
			if err != nil || len(rows) != 2 || rows[0].Text != rows[1].Text {
				t.Fatalf("array: %+v, %v", rows, err)
			}
		} else {
			// Rows or an error: that it ends without a panic is all that can be said.
			_, _ = source.Ranges(source.JSON, in, nil, 8, 0)
		}
	})
}

// Clean text is valid, normal, folded, and stays as it is.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"a", " a  b ", "e\u0301", "\u00a0", "a\x00", "\xff", "x\u2003y\u1680z"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, reason := source.Clean(data)
		if reason != "" {
			return
		}
		again, reason := source.Clean([]byte(s))
		if again != s || reason != "" || s == "" || !utf8.ValidString(s) || !norm.NFC.IsNormalString(s) || strings.Contains(s, "  ") || strings.TrimSpace(s) != s {
			t.Fatalf("%q becomes %q, then %q %s", data, s, again, reason)
		}
	})
}
