package judge_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/transforms/judge"
)

// A shape is one case of testdata/answers.txt.
type shape struct{ form, name, answer, want string }

func shapes(tb testing.TB) []shape {
	tb.Helper()
	data, err := os.ReadFile("testdata/answers.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var out []shape
	for _, part := range strings.Split(string(data), "\n== ")[1:] {
		head, body, _ := strings.Cut(part, "\n")
		form, name, ok := strings.Cut(head, ": ")
		answer, want, ok2 := strings.Cut("\n"+body, "\n-> ")
		if !ok || !ok2 {
			tb.Fatalf("case %q has no form or no result", head)
		}
		out = append(out, shape{form, name, strings.Trim(answer, "\n"), strings.TrimSpace(want)})
	}
	return out
}

func parseAs(form, answer string) (judge.Scores, error) {
	if form == "answers" {
		return judge.ParseAnswers(answer)
	}
	return judge.ParseImages(answer)
}

// result writes what a parser returned as the table does.
func result(s judge.Scores, err error) string {
	var f judge.Fault
	switch {
	case errors.As(err, &f):
		return string(f)
	case err != nil:
		return "untyped error: " + err.Error()
	case s.Decimal:
		return fmt.Sprint(s.First, " ", s.Second, " decimal")
	}
	return fmt.Sprint(s.First, " ", s.Second)
}

func TestParse(t *testing.T) {
	all := shapes(t)
	if len(all) < 200 {
		t.Errorf("only %d shapes", len(all))
	}
	for _, s := range all {
		t.Run(s.form+"/"+s.name, func(t *testing.T) {
			if got := result(parseAs(s.form, s.answer)); got != s.want {
				t.Errorf("got %s, want %s, for\n%s", got, s.want, s.answer)
			}
			crlf := strings.ReplaceAll(s.answer, "\n", "\r\n")
			if got := result(parseAs(s.form, crlf)); got != s.want {
				t.Errorf("with Windows line ends: got %s, want %s", got, s.want)
			}
			if got := result(parseAs(s.form, s.answer+"\u200b")); got != s.want {
				t.Errorf("with a space of no width, so not in ASCII: got %s, want %s", got, s.want)
			}
		})
	}
}

// Exchanging the labels exchanges the scores: they follow the labels, not the order.
func TestParseFollowsLabels(t *testing.T) {
	swap := strings.NewReplacer("Image 1", "Image 2", "Image 2", "Image 1", "Answer A", "Answer B", "Answer B", "Answer A")
	for _, s := range shapes(t) {
		got, err := parseAs(s.form, s.answer)
		if err != nil || !strings.Contains(s.answer, "Image 1") && !strings.Contains(s.answer, "Answer A") || !strings.Contains(s.answer, "Image 2") && !strings.Contains(s.answer, "Answer B") {
			continue
		}
		swapped, err := parseAs(s.form, swap.Replace(s.answer))
		if err != nil || swapped.First != got.Second || swapped.Second != got.First {
			t.Errorf("%s: %+v, swapped %+v, %v", s.name, got, swapped, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range shapes(f) {
		f.Add(s.answer, s.form == "answers")
	}
	wider := strings.NewReplacer(" ", "  ", "\n", " \t\n ")
	f.Fuzz(func(t *testing.T, answer string, answers bool) {
		form, least := "images", 0.0
		if answers {
			form, least = "answers", 1
		}
		s, err := parseAs(form, answer)
		if err == nil {
			whole := true
			for _, x := range []float64{s.First, s.Second} {
				if x < least || x > 5 || float64(math.Round(x*1000))/1000 != x {
					t.Errorf("%v is off the scale", x)
				}
				whole = whole && x == math.Trunc(x)
			}
			if whole == s.Decimal {
				t.Errorf("decimal is %v for %v and %v", s.Decimal, s.First, s.Second)
			}
		}
		got := result(s, err)
		if strings.HasPrefix(got, "untyped") || got == "missing" {
			t.Error(got)
		}
		if spaced := result(parseAs(form, "\n "+wider.Replace(answer)+" \n")); spaced != got {
			t.Errorf("%q gives %s, with more white space %s", answer, got, spaced)
		}
	})
}

// An answer made to be slow must not hold up the bundle. The forms are those that were slow once.
func TestParseHostile(t *testing.T) {
	for _, unit := range []string{"image 1: score 4 ", "score (", "image 1 (", "image 1: ", "image 1 a 1 b 2 ", "(score: 1", "[[[[", "score \n"} {
		start := time.Now()
		if s, err := judge.ParseImages("image 1: score" + strings.Repeat(unit, 32000/len(unit))); err == nil {
			t.Errorf("%q repeated gives %+v", unit, s)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%q repeated takes %v", unit, d)
		}
	}
	long := "Image 1: 4\nImage 2: 3\n" + strings.Repeat("x", 1<<16)
	if _, err := judge.ParseImages(long); !errors.Is(err, judge.NoScore) {
		t.Errorf("an endless answer gives %v", err)
	}
}
