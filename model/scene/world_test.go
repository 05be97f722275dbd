package scene_test

import (
	"os"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/scene"
)

// A realPrompt is what a person typed: its first comma segment, and the up to eight after it.
type realPrompt struct{ raw, full string }

func realPrompts(t testing.TB) []realPrompt {
	t.Helper()
	data, err := os.ReadFile("testdata/prompts.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var out []realPrompt
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 3 {
			t.Fatalf("prompts.tsv: %q", line)
		}
		out = append(out, realPrompt{fields[1], fields[1] + ", " + fields[2]})
	}
	return out
}

// total is the oracle's mean total of a prompt's pictures under the seeds from first on.
func total(prompt, raw string, first int64, seeds int) float64 {
	var sum float64
	for s := range int64(seeds) {
		sum += scene.Oracle(scene.Draw(prompt, first+s), raw).Total()
	}
	return sum / float64(seeds)
}

// Over real prompts the modifiers that people chose make better pictures than none, and well chosen
// ones far better: there is something to learn, and much of it.
func TestModifiersMatter(t *testing.T) {
	prompts := realPrompts(t)
	var raw, human, worse float64
	for i, p := range prompts {
		raw += total(p.raw, p.raw, int64(i), 1)
		human += total(p.full, p.raw, int64(i), 1)
		worse += total(p.raw+strings.Repeat(", thing", 12), p.raw, int64(i), 1)
	}
	n := float64(len(prompts))
	raw, human, worse = raw/n, human/n, worse/n
	t.Logf("of %d prompts: raw %.2f, with people's modifiers %.2f, with 12 empty ones %.2f", len(prompts), raw, human, worse)
	if raw < 7.5 || human < raw+.1 || human > 10 {
		t.Errorf("raw %.2f, with people's modifiers %.2f; the trial had 8.36 and 8.60", raw, human)
	}
	if worse > raw-.5 {
		t.Errorf("12 modifiers that say nothing give %.2f, raw prompts %.2f: the subject does not fade", worse, raw)
	}
}

var known = []string{
	"highly detailed", "sharp focus", "vibrant", "high contrast", "symmetrical", "centered", "octane render",
	"cinematic", "dramatic lighting", "sunset", "smooth", "black and white", "dark", "colorful", "elegant",
	"fantasy", "intricate", "close up", "fog", "bright",
}

// greedy adds, five times, the known modifier that helps most on two seeds.
func greedy(raw string) string {
	best := raw
	for range 5 {
		from, top := best, 0.
		for _, m := range known {
			if strings.Contains(from, m) {
				continue
			}
			if s := total(from+", "+m, raw, 1000, 2); s > top {
				best, top = from+", "+m, s
			}
		}
	}
	return best
}

func TestGreedyRewritingIsFarBetter(t *testing.T) {
	raws := []string{
		"portrait of a woman", "a city at the river", "a blue cat", "a castle", "a planet", "the sound of silence",
	}
	var sum, many float64
	for _, raw := range raws {
		best := greedy(raw)
		s := total(best, raw, 1, 4)
		all := total(raw+", "+strings.Join(known, ", "), raw, 1, 4)
		t.Logf("%.2f %s; raw %.2f, all %.2f", s, best, total(raw, raw, 1, 4), all)
		sum += s
		many += all
		if s < total(raw, raw, 1, 4)+1 {
			t.Errorf("%q: greedy rewriting %q gains less than 1", raw, best)
		}
	}
	if mean := sum / float64(len(raws)); mean < 11.5 || mean < many/float64(len(raws))+2 {
		t.Errorf("greedy rewritings have a mean of %.2f, all known modifiers %.2f; the trial had 12 to 13.7", mean, many/float64(len(raws)))
	}
}

func TestSubject(t *testing.T) {
	for _, c := range []struct {
		raw      string
		category scene.Category
		hue      float64
	}{
		{"A red fox", scene.Animal, 0},
		{"portrait of a queen", scene.Person, 25},
		{"portrait of an old robot, by a king", scene.Robot, 190},
		{"king of robots", scene.Person, 25},
		{"the gold standard", scene.Thing, 45},
		{"moody, a castle", scene.Thing, 3}, // from SHA-256 of "moody"
		{"wolf city", scene.Animal, 35},
	} {
		category, hue := scene.Subject(c.raw)
		if category != c.category || hue != c.hue {
			t.Errorf("%q: %v of hue %v, want %v of %v", c.raw, category, hue, c.category, c.hue)
		}
	}
	// Prompts of unknown words are told apart by their hue.
	hues := map[float64]bool{}
	for _, raw := range []string{"joy", "sorrow", "the passing of time", "нечто", "zephyr", "qwerty", ""} {
		category, hue := scene.Subject(raw)
		if category != scene.Thing {
			t.Errorf("%q is a %v", raw, category)
		}
		hues[hue] = true
	}
	if len(hues) < 5 {
		t.Errorf("7 unknown prompts have %d hues", len(hues))
	}
}

func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"  A Cat ,by   Moonlight,, 8 K ": "a cat, by moonlight, , 8k",
		"3-D render | octane":            "3d render octane",
		"café — naïve":                   "caf na ve",
		",,":                             "",
	} {
		if got := scene.Normalize(in); got != want {
			t.Errorf("Normalize(%q) = %q, want %q", in, got, want)
		}
	}
}

// A modifier acts once; chance is the seed's alone.
func TestModifierActsOnce(t *testing.T) {
	once, twice := scene.Parse("a cat, vibrant", ""), scene.Parse("a cat, vibrant vibrant", "")
	if once != twice {
		t.Errorf("once %v, twice %v", once, twice)
	}
	if a, b := scene.Parse("a cat, golden hour", ""), scene.Parse("a cat, hour", ""); a.Style == b.Style {
		t.Error("a known modifier does nothing")
	}
	if scene.NewLayout(5) != scene.NewLayout(5) || scene.NewLayout(5) == scene.NewLayout(6) {
		t.Error("a layout is not its seed's")
	}
}

func FuzzParse(f *testing.F) {
	for _, p := range realPrompts(f) {
		f.Add(p.full, p.raw)
	}
	f.Add("", "")
	f.Add("\xff, 8 k,, 3 D | İ", "٣ d")
	f.Fuzz(func(t *testing.T, full, raw string) {
		st := scene.Parse(full, raw)
		if st.Category < 0 || st.Category >= scene.Categories || !(st.Hue >= 0 && st.Hue < 360) {
			t.Fatalf("category %d, hue %v", st.Category, st.Hue)
		}
		if !(st.Alpha >= .25 && st.Alpha <= 1) || st.Modifiers < 0 {
			t.Fatalf("alpha %v with %d modifiers", st.Alpha, st.Modifiers)
		}
		for _, s := range scene.Segments(scene.Normalize(full)) {
			if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.- ") != "" {
				t.Fatalf("segment %q", s)
			}
		}
		for i, v := range scene.Paint(st, scene.NewLayout(1)) {
			if !(v >= 0 && v <= 1) {
				t.Fatalf("channel %d is %v", i, v)
			}
		}
	})
}
