package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// translate turns a pattern of Oniguruma's Ruby dialect, which tokenizer.json is written in, into one of
// regexp2 (.NET). The two differ, in what tokenizers use, in possessive quantifiers, in \w, and in which
// letters are equal when case is ignored. What only one of them knows is an error.
func translate(p string) (string, error) {
	t := translator{in: p, atom: -1}
	for t.at < len(p) {
		if err := t.next(); err != nil {
			return "", fmt.Errorf("%w at byte %d of %.200q", err, t.at, p)
		}
	}
	return t.out.String(), nil
}

type translator struct {
	in   string
	at   int
	out  builder
	atom int // where in out the last atom starts; -1: nothing to repeat
	fold bool
	open []group
}

type group struct {
	start int
	fold  bool // outside the group
}

// builder is a text that can be wrapped from some place on.
type builder struct{ strings.Builder }

func (b *builder) wrap(from int, before, after string) {
	s := b.String()
	b.Reset()
	b.WriteString(s[:from] + before + s[from:] + after)
}

func (t *translator) next() error {
	switch c := t.in[t.at]; c {
	case '\\':
		t.atom = t.out.Len()
		escape, err := t.escape()
		if escape == `\w` || escape == `\W` {
			escape = strings.NewReplacer(`\w`, "["+wordClass+"]", `\W`, "[^"+wordClass+"]").Replace(escape)
		}
		t.out.WriteString(escape)
		return err
	case '[':
		t.atom = t.out.Len()
		return t.class()
	case '(':
		return t.group()
	case ')':
		if len(t.open) == 0 {
			return errors.New("unmatched )")
		}
		g := t.open[len(t.open)-1]
		t.open = t.open[:len(t.open)-1]
		t.atom, t.fold = g.start, g.fold
		t.take(1)
	case '|':
		t.take(1)
		t.atom = -1
	case '*', '+', '?':
		t.take(1)
		t.quantified(true)
	case '{':
		n := counted(t.in[t.at:])
		if n == 0 || t.atom < 0 {
			t.literal()
			return nil
		}
		t.take(n)
		t.quantified(false)
	default:
		t.literal()
	}
	return nil
}

func (t *translator) take(n int) {
	t.out.WriteString(t.in[t.at : t.at+n])
	t.at += n
}

func (t *translator) literal() {
	t.atom = t.out.Len()
	_, n := utf8.DecodeRuneInString(t.in[t.at:])
	c := t.in[t.at : t.at+n]
	t.at += n
	r, _ := utf8.DecodeRuneInString(c)
	switch {
	case t.fold && unicode.SimpleFold(r) != r:
		c = "[" + c + others(r) + "]"
	case c == "{":
		c = `\{`
	}
	t.out.WriteString(c)
}

// others are the characters that equal r but for case. The dialect knows that the long s and the Kelvin sign
// are letters of the alphabet and that the dotted capital I is not.
func others(r rune) string {
	var out []rune
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		out = append(out, f)
	}
	return string(out)
}

// quantified handles what follows a quantifier: nothing, ? for lazy, + for possessive.
func (t *translator) quantified(mayPossess bool) {
	if t.at >= len(t.in) || t.atom < 0 {
		return
	}
	switch t.in[t.at] {
	case '?':
		t.take(1)
	case '+':
		if mayPossess {
			t.at++
			t.out.wrap(t.atom, "(?>", ")")
		}
	}
}

// counted is the length of the {n}, {n,} or {n,m} that s starts with, or 0.
func counted(s string) int {
	end := strings.IndexByte(s, '}')
	if end < 2 || strings.Trim(s[1:end], "0123456789,") != "" || s[1] == ',' || strings.Count(s[:end], ",") > 1 {
		return 0
	}
	return end + 1
}

// wordClass is \w in Oniguruma: what is alphabetic, marks, decimal digits and connectors, and among the first
// 256 characters what ISO 8859-1 has for numbers. Every code point was compared with the reference.
const wordClass = `\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\p{Other_Alphabetic}\u00B2\u00B3\u00B9\u00BC-\u00BE`

// escape returns the escape that the rest starts with and passes it.
func (t *translator) escape() (string, error) {
	rest := t.in[t.at:]
	if len(rest) < 2 {
		t.at = len(t.in)
		return "", errors.New(`\ at the end`)
	}
	_, n := utf8.DecodeRuneInString(rest[1:])
	n++
	switch rest[1] {
	case 'p', 'P', 'x', 'u':
		if len(rest) > 2 && rest[2] == '{' {
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				return "", errors.New("{ without }")
			}
			n = end + 1
		}
	case 'h', 'H', 'R', 'X', 'K', 'y', 'Y', 'N', 'O', 'g', 'G':
		return "", fmt.Errorf(`\%c is not supported`, rest[1])
	}
	t.at += n
	return rest[:n], nil
}

// class copies a class. Where case is ignored it adds the other cases of its characters.
func (t *translator) class() error {
	t.take(1)
	if strings.HasPrefix(t.in[t.at:], "^") {
		t.take(1)
	}
	last, ranged := rune(-1), false // the character before, and whether a range starts with it
	folded := ""
	for first := true; ; first = false {
		if t.at >= len(t.in) {
			return errors.New("[ without ]")
		}
		switch c := t.in[t.at]; {
		case c == ']' && first:
			return errors.New("an empty class is not supported")
		case c == ']':
			t.out.WriteString(folded)
			t.take(1)
			return nil
		case c == '[' || strings.HasPrefix(t.in[t.at:], "&&"):
			return errors.New("a class in a class is not supported: escape [ and &&")
		case c == '\\':
			escape, err := t.escape()
			if err != nil {
				return err
			}
			if escape == `\W` {
				return errors.New(`\W in a class is not supported`)
			}
			t.out.WriteString(strings.Replace(escape, `\w`, wordClass, 1))
			last, ranged = -1, false
		case strings.HasPrefix(t.in[t.at:], "-]"):
			t.out.WriteString(`\-`)
			t.at++
		case c == '-' && last >= 0 && !ranged:
			t.take(1)
			ranged = true
		default:
			r, n := utf8.DecodeRuneInString(t.in[t.at:])
			t.take(n)
			from := r
			if ranged {
				from = last
			}
			if t.fold {
				if r-from > 1<<10 {
					return errors.New("a range of more than 1024 characters is not supported where case is ignored")
				}
				for ; from <= r; from++ {
					folded += others(from)
				}
			}
			last, ranged = r, false
		}
	}
}

// group opens a group or, as (?i), changes the rest of the one around it.
func (t *translator) group() error {
	rest := t.in[t.at:]
	inner := group{t.out.Len(), t.fold}
	for _, plain := range []string{"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"} {
		if strings.HasPrefix(rest, plain) {
			t.open, t.atom = append(t.open, inner), -1
			t.take(len(plain))
			return nil
		}
	}
	for _, flag := range []string{"(?i", "(?-i"} {
		after, ok := strings.CutPrefix(rest, flag)
		if !ok {
			continue
		}
		switch {
		case strings.HasPrefix(after, ":"):
			t.open = append(t.open, inner)
			t.out.WriteString("(?:")
		case !strings.HasPrefix(after, ")"):
			return errors.New("only the flag i is supported")
		}
		t.at += len(flag) + 1
		t.atom, t.fold = -1, flag == "(?i"
		return nil
	}
	if strings.HasPrefix(rest, "(?") {
		return errors.New("this kind of group is not supported")
	}
	t.open, t.atom = append(t.open, inner), -1
	t.out.WriteString("(?:") // what a group catches is of no use here
	t.at++
	return nil
}
