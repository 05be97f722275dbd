package shingle_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/transforms/dedup/shingle"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"A Cat, asleep!":   "a cat asleep",
		"  -- a ":          "a",
		"!!":               "!!",
		"Straße CAFÉ":      "strasse café",
		"ｆｕｌｌ width":       "full width",
		"8K, f/1.4":        "8k f 1 4",
		"a\u00a0b\u2014c ": "a b c",
	} {
		if got := shingle.Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
	}
}

// The fast path for ASCII and the general one agree: an added letter that folds away alone tells them apart.
func FuzzFold(f *testing.F) {
	f.Add("A b, c")
	f.Fuzz(func(t *testing.T, s string) {
		once := shingle.Fold(s)
		if with := shingle.Fold(s + " é"); strings.ContainsAny(once, "abcdefghijklmnopqrstuvwxyz") && with != once+" é" {
			t.Errorf("Fold(%q) = %q, with another word %q", s, once, with)
		}
	})
}

func TestRuns(t *testing.T) {
	got := slices.Collect(shingle.Runs("a b c d", 3))
	if want := []string{"a b c", "b c d"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := slices.Collect(shingle.Runs("a b", 3)); !slices.Equal(got, []string{"a b"}) {
		t.Errorf("%q", got)
	}
}

func TestJaccard(t *testing.T) {
	a, b := shingle.Set("a b c d", 1, 0), shingle.Set("c d e f", 1, 0)
	if got := shingle.Jaccard(a, b, 0); got != 2./6 {
		t.Errorf("%g, want 1/3", got)
	}
	// A sketch estimates: three quarters of 4,000 words are shared.
	var x, y strings.Builder
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 4000 {
		w := rng.Uint64()
		fmt.Fprintf(&x, "%x ", w)
		if i%4 == 0 {
			w++
		}
		fmt.Fprintf(&y, "%x ", w)
	}
	got := shingle.Jaccard(shingle.Set(x.String(), 1, 256), shingle.Set(y.String(), 1, 256), 256)
	if want := 3. / 5; math.Abs(got-want) > 0.1 {
		t.Errorf("estimate %g, want about %g", got, want)
	}
}
