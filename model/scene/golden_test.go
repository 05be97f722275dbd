package scene_test

import (
	"encoding/json"
	"image/png"
	"math"
	"os"
	"testing"

	"github.com/promptmill/promptmill/model/scene"
)

// golden is one picture of the Python reference (testdata/README.md).
type golden struct {
	Full, Raw string
	Layout    scene.Layout
	Category  string
	Hue       float64
	Style     scene.Style
	Alpha     float64
	Modifiers int
	// Odd names a picture that no prompt made.
	Odd string
	// What the oracle says of the picture, for the subject.
	Subject string
	Stats   [5]float64
	Parts   [5]float64
	Shape   [scene.Categories]float64
	Scores  [3]float64
	Colours [6]float64
}

// goldens reads the cases and their pictures: one 16-bit PNG, one picture below the other.
func goldens(t testing.TB) ([]golden, []*scene.Image) {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/golden.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	strip, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(cases) * scene.Side; strip.Bounds().Dy() != want || want == 0 {
		t.Fatalf("the strip is %d pixels high, %d cases want %d", strip.Bounds().Dy(), len(cases), want)
	}
	images := make([]*scene.Image, len(cases))
	for n := range images {
		img := new(scene.Image)
		for i := range scene.Side * scene.Side {
			r, g, b, _ := strip.At(i%scene.Side, n*scene.Side+i/scene.Side).RGBA()
			img[3*i], img[3*i+1], img[3*i+2] = float32(r)/65535, float32(g)/65535, float32(b)/65535
		}
		images[n] = img
	}
	return cases, images
}

const tolerance = 1e-3

func TestParseAndPaintAgreeWithTheReference(t *testing.T) {
	cases, images := goldens(t)
	for n, c := range cases {
		if c.Odd != "" {
			continue
		}
		st := scene.Parse(c.Full, c.Raw)
		if st.Category.String() != c.Category || st.Hue != c.Hue || st.Modifiers != c.Modifiers {
			t.Errorf("%q: got %v, hue %v, %d modifiers; want %v, %v, %d", c.Full, st.Category, st.Hue, st.Modifiers, c.Category, c.Hue, c.Modifiers)
		}
		for d, want := range c.Style {
			if math.Abs(st.Style[d]-want) > 1e-8 {
				t.Errorf("%q: style[%d] = %v, want %v", c.Full, d, st.Style[d], want)
			}
		}
		if math.Abs(st.Alpha-c.Alpha) > 1e-9 {
			t.Errorf("%q: alpha = %v, want %v", c.Full, st.Alpha, c.Alpha)
		}
		img := scene.Paint(st, c.Layout)
		worst := 0.
		for i := range img {
			worst = max(worst, math.Abs(float64(img[i]-images[n][i])))
		}
		if worst > tolerance {
			t.Errorf("%q: a pixel differs by %v", c.Full, worst)
		}
	}
}

func TestOracleAgreesWithTheReference(t *testing.T) {
	cases, images := goldens(t)
	for n, c := range cases {
		m := scene.Measure(images[n])
		s := m.Scores(c.Subject)
		parts := m.Parts()
		check := func(what string, got, want []float64) {
			for i := range want {
				if !(math.Abs(got[i]-want[i]) <= tolerance) {
					t.Errorf("%s%s: %s[%d] = %v, want %v", c.Full, c.Odd, what, i, got[i], want[i])
				}
			}
		}
		check("stats", []float64{m.Colourfulness, m.Contrast, m.Sharpness, m.Symmetry, m.Brightness}, c.Stats[:])
		check("parts", parts[:], c.Parts[:])
		check("shape", m.Shape[:], c.Shape[:])
		check("scores", []float64{s.Aesthetic, s.Pick, s.Alignment}, c.Scores[:])
		if again := scene.Oracle(images[n], c.Subject); again != s {
			t.Errorf("%s%s: Oracle says %v, Measure %v", c.Full, c.Odd, again, s)
		}
		if c.Odd == "" {
			category, _ := scene.Subject(c.Subject)
			f, g := m.Figure[category], m.Ground[category]
			check("colours", []float64{f[0], f[1], f[2], g[0], g[1], g[2]}, c.Colours[:])
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	for b.Loop() {
		scene.Draw("a red fox in the snow, highly detailed, sharp focus, 8k, octane render, intricate, dramatic lighting, artstation", 7)
	}
}

func BenchmarkMeasure(b *testing.B) {
	_, images := goldens(b)
	for b.Loop() {
		scene.Measure(images[1])
	}
}
