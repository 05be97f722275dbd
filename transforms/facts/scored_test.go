package facts_test

import (
	"archive/zip"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/facts"
)

func ava(t *testing.T, change func(*facts.AVAConfig)) result {
	t.Helper()
	cfg := facts.DefaultAVA()
	cfg.Path, cfg.Images, cfg.Store, cfg.Seed = fixtures+"ava/AVA.txt", fixtures+"ava/images.zip", t.TempDir(), 3
	change(&cfg)
	return run(t, cfg.Store, func(s beam.Scope) (a, b, c beam.PCollection) { return facts.AVA(s, cfg) })
}

// paired checks what holds for pairs of scored pictures: a picture is in one pair, and the scores are far
// enough apart and say what the preference says.
func paired(t *testing.T, r result, gap float64) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range r.facts {
		if seen[f.FirstID] || seen[f.SecondID] {
			t.Errorf("fact %s: a picture is in two pairs", f.ID)
		}
		seen[f.FirstID], seen[f.SecondID] = true, true
		a, b := *f.FirstScore, *f.SecondScore
		if math.Abs(a-b) < gap || (a > b) != (f.Preference == schemas.First) || f.FactSource != schemas.FactHuman {
			t.Errorf("fact %s: %v and %v, %s by %s", f.ID, a, b, f.Preference, f.FactSource)
		}
	}
}

func TestAVA(t *testing.T) {
	got := ava(t, func(*facts.AVAConfig) {})
	paired(t, got, 1)
	n := int64(len(got.facts))
	if n < 8 {
		t.Errorf("%d pairs of 24 pictures", n)
	}
	got.want(t, map[string]int64{"fact_table.in": 24, "fact_table.filtered.unpaired": 24 - 2*n, "fact_table.out": 2 * n, "facts.in": n, "facts.out": n})

	// The score is the mean of the votes in columns 3 to 12.
	line := strings.Fields(strings.SplitN(string(read(t, fixtures+"ava/AVA.txt")), "\n", 2)[0])
	var votes, points int
	for i, s := range line[2:12] {
		var v int
		if _, err := fmt.Sscan(s, &v); err != nil {
			t.Fatal(err)
		}
		votes, points = votes+v, points+v*(i+1)
	}
	found := false
	for _, f := range got.facts {
		for id, score := range map[string]float64{f.FirstID: *f.FirstScore, f.SecondID: *f.SecondScore} {
			if id == "ava/"+line[1] {
				found = true
				if score != float64(points)/float64(votes) {
					t.Errorf("picture %s has %v, want %d/%d", id, score, points, votes)
				}
			}
		}
	}
	if !found {
		t.Errorf("picture %s is in no pair: take another line", line[1])
	}

	// A folder in the archive's place gives the same, however the pictures lie.
	if d := cmp.Diff(got.facts, ava(t, func(c *facts.AVAConfig) { c.Images = unzip(t) }).facts); d != "" {
		t.Error(d)
	}
	// The first by rank; both orders of pictures occur.
	few := ava(t, func(c *facts.AVAConfig) { c.Rows = 3 })
	if want := byRank(got.ids(), 3)[:3]; !equalSets(few.ids(), want) {
		t.Errorf("got %q, want %q", few.ids(), want)
	}
	firsts := 0
	for _, f := range got.facts {
		if f.Preference == schemas.First {
			firsts++
		}
	}
	if firsts == 0 || firsts == len(got.facts) {
		t.Errorf("the first picture is preferred in %d of %d pairs", firsts, len(got.facts))
	}
	// Another seed pairs otherwise; a larger gap pairs fewer.
	if equalSets(got.ids(), ava(t, func(c *facts.AVAConfig) { c.Seed = 4 }).ids()) {
		t.Error("two seeds give the same pairs")
	}
	wide := ava(t, func(c *facts.AVAConfig) { c.MinGap = 3 })
	paired(t, wide, 3)
	if len(wide.facts) == 0 || len(wide.facts) >= len(got.facts) {
		t.Errorf("%d pairs 3 apart, %d pairs 1 apart", len(wide.facts), len(got.facts))
	}
}

// unzip unpacks AVA's pictures into a folder, without the folder in the archive.
func unzip(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	r, err := zip.OpenReader(fixtures + "ava/images.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, filepath.Base(f.Name), data)
	}
	return dir
}

func TestAVAFaults(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(string(read(t, fixtures+"ava/AVA.txt"))), "\n")
	few := strings.Fields(lines[0])
	for i := 2; i < 12; i++ {
		few[i] = "1"
	}
	few[1] = "1"
	dir := t.TempDir()
	write(t, dir, "AVA.txt", []byte("\ufeff"+strings.Join(slices.Concat(lines, []string{
		"", "25 1 2 3", strings.Replace(lines[0], " ", " x", 1), "26 2 0 0 0 0 0 0 0 0 0 0 1 2 3", "27 3 -1 0 0 0 0 0 0 0 0 9 1 2 3",
		lines[3], strings.Join(few, " "),
	}), "\r\n")))
	images := unzip(t)
	gone := strings.Fields(lines[1])[1] + ".jpg"
	if err := os.Remove(filepath.Join(images, gone)); err != nil {
		t.Fatal(err)
	}
	got := ava(t, func(c *facts.AVAConfig) { c.Path, c.Images, c.MinVotes = filepath.Join(dir, "AVA.txt"), images, 20 })
	n, unpaired := got.counts["facts.in"], got.counts["fact_table.filtered.unpaired"]
	got.want(t, map[string]int64{
		"fact_table.in": 30, "fact_table.dead.bad_row": 3, "fact_table.dead.bad_score": 1, "fact_table.filtered.duplicate": 1, "fact_table.filtered.few_votes": 1,
		"fact_table.filtered.unpaired": unpaired, "fact_table.out": 24 - unpaired, "facts.in": n, "facts.out": n - 1, "facts.dead.missing_picture": 1,
	})
	for _, d := range got.dead {
		if d.Reason == facts.MissingPicture && !strings.Contains(d.Detail, gone) || d.Reason == facts.BadRow && !strings.HasPrefix(d.Key, "ava:AVA.txt@") {
			t.Errorf("%+v", d)
		}
	}
}

func FuzzAVA(f *testing.F) {
	for _, line := range []string{
		"1 953619 0 1 5 17 38 36 15 6 5 1 1 22 1396", "", "1 2 3", "1 2 0 0 0 0 0 0 0 0 0 0 1 2 3", "1 2 -1 0 0 0 0 0 0 0 0 0 1 2 3",
		"1 2 4294967295 4294967295 0 0 0 0 0 0 0 9 1 2 3", "1 ../x 1 1 1 1 1 1 1 1 1 1 1 2 3", "1 2 1e3 1 1 1 1 1 1 1 1 1 1 2 3", "\x00",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		id, name, score, votes, reason := facts.ParseAVA(line)
		if reason != "" {
			if id != "" || votes != 0 {
				t.Errorf("%q is dead (%s), yet picture %q", line, reason, id)
			}
			return
		}
		digits, ok := strings.CutPrefix(id, "ava/")
		if !ok || strings.Trim(digits, "0123456789") != "" || digits == "" || name != digits+".jpg" {
			t.Errorf("%q: picture %q, name %q", line, id, name)
		}
		if !(score >= 1 && score <= 10) || votes < 1 {
			t.Errorf("%q: %v of %d votes", line, score, votes)
		}
		if len(strings.Fields(line)) != 15 {
			t.Errorf("%q has not 15 fields", line)
		}
	})
}

func sac(t *testing.T, path, images string) result {
	t.Helper()
	cfg := facts.DefaultSAC()
	cfg.Path, cfg.Images, cfg.Store, cfg.Seed = path, images, t.TempDir(), 3
	return run(t, cfg.Store, func(s beam.Scope) (a, b, c beam.PCollection) { return facts.SAC(s, cfg) })
}

const sacFile = "sac/sac_public_2022_06_29.sqlite"

func TestSAC(t *testing.T) {
	// The folder holds the SQLite file and the archive.
	got := sac(t, fixtures+sacFile, fixtures+"sac")
	paired(t, got, 1)
	n := int64(len(got.facts))
	if n < 5 {
		t.Errorf("%d pairs of 20 pictures", n)
	}
	got.want(t, map[string]int64{"fact_table.in": 20, "fact_table.filtered.unpaired": 20 - 2*n, "fact_table.out": 2 * n, "facts.in": n, "facts.out": n})
	db, err := sql.Open("sqlite", fixtures+sacFile)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, f := range got.facts {
		for id, score := range map[string]float64{f.FirstID: *f.FirstScore, f.SecondID: *f.SecondScore} {
			var prompt string
			var mean float64
			err := db.QueryRow("SELECT prompt, AVG(rating) FROM ratings JOIN images ON images.id = iid JOIN generations ON generations.id = gid WHERE iid = ?", strings.TrimPrefix(id, "sac/")).Scan(&prompt, &mean)
			if err != nil || prompt != f.Prompt || mean != score {
				t.Errorf("picture %s: %q %v, in the database %q %v, %v", id, f.Prompt, score, prompt, mean, err)
			}
		}
	}
}

func TestSACFaults(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a b?#.sqlite", read(t, fixtures+sacFile)) // a name that is no URL as it stands
	path := filepath.Join(dir, "a b?#.sqlite")
	copied := filepath.Join(dir, "copy.sqlite")
	write(t, dir, "copy.sqlite", read(t, fixtures+sacFile))
	db, err := sql.Open("sqlite", copied)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`
UPDATE ratings SET rating = 11 WHERE iid = 1; UPDATE ratings SET rating = 'good' WHERE iid = 2; UPDATE ratings SET rating = NULL WHERE iid = 3;
DELETE FROM paths WHERE iid = 4; INSERT INTO ratings VALUES ('s', 999, 5, 1); INSERT INTO ratings VALUES ('s', NULL, 5, 1);
UPDATE paths SET path = '../../etc/passwd' WHERE iid > 10 AND iid < 20; UPDATE paths SET path = 'nowhere.png' WHERE iid > 20 AND iid < 30`)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	got := sac(t, copied, fixtures+"sac/sac-000000.tar")
	for key, want := range map[string]int64{
		"fact_table.in": 22, "fact_table.dead.bad_score": 3, "fact_table.dead.no_picture_name": 1, "fact_table.dead.bad_prompt": 1, "fact_table.dead.bad_row": 1,
	} {
		if got.counts[key] != want {
			t.Errorf("%s: %d, want %d", key, got.counts[key], want)
		}
	}
	if got.counts["facts.dead.bad_path"] == 0 || got.counts["facts.dead.missing_picture"] == 0 || got.counts["facts.out"] == 0 {
		t.Errorf("counts %v", got.counts)
	}
	if n := len(sac(t, path, fixtures+"sac").facts); n == 0 {
		t.Error("no facts of a file with a strange name")
	}
	for name, path := range map[string]string{"none": filepath.Join(dir, "no.sqlite"), "no database": fixtures + "ava/AVA.txt", "directory": dir} {
		cfg := facts.DefaultSAC()
		cfg.Path, cfg.Images, cfg.Store = path, dir, t.TempDir()
		p, s := beam.NewPipelineWithRoot()
		facts.SAC(s, cfg)
		if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "no.sqlite")); err == nil {
			t.Error("reading made a file")
		}
	}
}

func table(t *testing.T, change func(*facts.TableConfig)) result {
	t.Helper()
	cfg := facts.DefaultTable()
	cfg.Path, cfg.Images, cfg.Store, cfg.Seed = fixtures+"table/scores.csv", fixtures+"ava/images.zip", t.TempDir(), 3
	cfg.Columns = map[string]string{facts.ImageColumn: "file", facts.ScoreColumn: "mos", facts.PromptColumn: "text"}
	change(&cfg)
	return run(t, cfg.Store, func(s beam.Scope) (a, b, c beam.PCollection) { return facts.Table(s, cfg) })
}

func TestTable(t *testing.T) {
	want := table(t, func(*facts.TableConfig) {})
	paired(t, want, 1)
	if len(want.facts) < 3 {
		t.Errorf("%d facts of 12 pictures", len(want.facts))
	}
	for _, ending := range []string{"tsv", "jsonl", "parquet"} {
		got := table(t, func(c *facts.TableConfig) { c.Path = fixtures + "table/scores." + ending })
		if d := cmp.Diff(want, got, cmp.AllowUnexported(result{})); d != "" {
			t.Errorf("%s is not what csv is: %s", ending, d)
		}
	}
	// Without prompts any two pictures may be a pair; of aspect pick there are none then.
	free := table(t, func(c *facts.TableConfig) { delete(c.Columns, facts.PromptColumn) })
	paired(t, free, 1)
	for _, f := range free.facts {
		if f.Prompt != "" {
			t.Errorf("fact %s has a prompt", f.ID)
		}
	}
	if len(free.facts) < len(want.facts) {
		t.Errorf("%d pairs without prompts, %d with", len(free.facts), len(want.facts))
	}
	pick := table(t, func(c *facts.TableConfig) { c.Aspect = schemas.Pick; delete(c.Columns, facts.PromptColumn) })
	pick.want(t, map[string]int64{"fact_table.in": 12, "fact_table.dead.bad_prompt": 12})
}

// Names in a table cannot lead out of the folder, and what is there need not be a picture.
func TestTableFaults(t *testing.T) {
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	write(t, dir, "outside.png", shot(t, "a cat", 1))
	write(t, images, "dir/x.png", shot(t, "a cat", 1))
	if err := os.Symlink(filepath.Join(dir, "outside.png"), filepath.Join(images, "link.png")); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{}
	bad := map[string]string{
		"../outside.png": facts.BadPath, "/etc/passwd": facts.BadPath, "link.png": facts.BadPath, "a\x00b": facts.BadPath,
		"dir": facts.MissingPicture, "none.png": facts.MissingPicture, "dir/x.png/y": facts.MissingPicture, strings.Repeat("long", 1000): facts.BadPath,
	}
	for name, b := range badPictures(t) {
		write(t, images, name+".png", b.data)
		bad[name+".png"] = b.reason
	}
	// Each in a pool of its own with a good picture, which is read in vain.
	rows := []string{"image\tscore\tprompt"}
	for name, reason := range bad {
		good := fmt.Sprintf("good%d.png", len(rows))
		write(t, images, good, shot(t, "a dog", int64(len(rows))))
		rows = append(rows, name+"\t1\t"+good, good+"\t5\t"+good)
		want["facts.dead."+reason]++
	}
	for i := range 2 {
		good := fmt.Sprintf("fine%d.png", i)
		write(t, images, good, shot(t, "a tree", int64(1000+i)))
		rows = append(rows, fmt.Sprintf("%s\t%d\ta tree", good, 3*i))
	}
	pairs := int64(len(bad) + 1)
	rows = append(rows, "x.png\tNaN\tp", "x.png\t\tp", "x.png\t1", "\t1\tp", "y.png\t1\t \t", "z.png\t1\t ")
	want["fact_table.dead.bad_score"], want["fact_table.dead.bad_row"], want["fact_table.dead.no_picture_name"], want["fact_table.dead.bad_prompt"] = 2, 2, 1, 1
	want["fact_table.in"], want["fact_table.out"], want["facts.in"], want["facts.out"] = 2*pairs+6, 2*pairs, pairs, 1
	write(t, dir, "t.tsv", []byte(strings.Join(rows, "\n")))
	got := table(t, func(c *facts.TableConfig) {
		c.Path, c.Images, c.Columns, c.MaxBytes = filepath.Join(dir, "t.tsv"), images, nil, maxBytes
	})
	got.want(t, want)

	write(t, dir, "t.jsonl", []byte(`{"image":"fine0.png","score":"1.5"}`+"\n"+`{"image":"fine1.png","score":4}`+"\n[]\nnull\n{\n"+`{"image":7,"score":1}`+"\n"+`{"image":"x"}`+"\n"+`{"image":"x","score":{}}`+"\n"+`{"image":"x","score":1,"prompt":[]}`))
	table(t, func(c *facts.TableConfig) { c.Path, c.Images, c.Columns = filepath.Join(dir, "t.jsonl"), images, nil }).want(t, map[string]int64{
		"fact_table.in": 9, "fact_table.dead.bad_row": 3, "fact_table.dead.no_picture_name": 1, "fact_table.dead.bad_score": 2, "fact_table.dead.bad_prompt": 1,
		"fact_table.out": 2, "facts.in": 1, "facts.out": 1,
	})
	write(t, dir, "t.csv", []byte("score,image\n1,fine0.png\n2,\"fine1\n4,\"a\"b\n"))
	table(t, func(c *facts.TableConfig) { c.Path, c.Images, c.Columns = filepath.Join(dir, "t.csv"), images, nil }).want(t, map[string]int64{
		"fact_table.in": 2, "fact_table.dead.bad_row": 1, "fact_table.filtered.unpaired": 1,
	})
	for name, data := range map[string]string{"empty.csv": "", "empty.tsv": "", "other.csv": "file,mos\n", "other.tsv": "Image\tscore\n", "long.tsv": strings.Repeat("x", 2<<20)} {
		write(t, dir, name, []byte(data))
		cfg := facts.DefaultTable()
		cfg.Path, cfg.Images, cfg.Store = filepath.Join(dir, name), images, t.TempDir()
		p, s := beam.NewPipelineWithRoot()
		facts.Table(s, cfg)
		if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
