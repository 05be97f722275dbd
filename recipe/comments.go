package recipe

import (
	"sort"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// comments hangs the comments of the text on the entries they speak of: one at the end of a line on
// the key of that line, a block of them on the key below it, or, where it is indented deeper than
// that key or something else comes between, on the one before it. None is lost where there is an
// entry at all.
func (p *parser) comments(source string, tokens token.Tokens) {
	if len(p.written) == 0 {
		return
	}
	lines := strings.Split(source, "\n")
	blank := func(line int) bool { return line > 0 && strings.TrimSpace(lines[line-1]) == "" }
	var own []token.Position // of comments that have a line to themselves
	texts := map[int]string{}
	for _, tk := range tokens {
		if tk.Type != token.CommentType || tk.Position.Line > len(lines) {
			continue
		}
		at, text := *tk.Position, "#"+strings.TrimRight(tk.Value, " \t")
		p.remarks = append(p.remarks, remark{p.position(at.Line, at.Column), text})
		if strings.HasPrefix(strings.TrimSpace(lines[at.Line-1]), "#") {
			own, texts[at.Line] = append(own, at), text
		} else {
			p.trailing(at.Line, text)
		}
	}
	next := followers(lines, texts)
	for _, at := range own {
		text := texts[at.Line]
		i := sort.Search(len(p.written), func(i int) bool { return p.written[i].line > at.Line })
		fits := i < len(p.written) && at.Column <= p.written[i].col && next[at.Line] == p.written[i].line
		if !fits && i > 0 {
			p.behind(i, at.Column, text)
			continue
		}
		e := p.written[i].entry
		if blank(at.Line-1) && (i > 0 || len(e.head) > 0) {
			e.head = append(e.head, "")
		}
		e.head = append(e.head, text)
	}
	for i, e := range p.written {
		if i > 0 && e.line > p.written[i-1].line && blank(e.line-1) {
			e.head = append(e.head, "")
		}
	}
}

// followers gives for each line the next one that holds more than white space, a comment or a marker
// of the document.
func followers(lines []string, comments map[int]string) []int {
	next := make([]int, len(lines)+1)
	follower := 0
	for l := len(lines); l >= 1; l-- {
		next[l] = follower
		if text := strings.TrimSpace(lines[l-1]); text != "" && text != "---" && comments[l] == "" {
			follower = l
		}
	}
	return next
}

// trailing hangs a comment at the end of a line on the last entry that begins there or before,
// outside brackets if there is one.
func (p *parser) trailing(line int, text string) {
	var found *written
	for i := range p.written {
		e := &p.written[i]
		if e.line > line {
			break
		}
		if !e.flow || found == nil || found.line < e.line {
			found = e
		}
	}
	switch {
	case found == nil:
		p.written[0].head = append(p.written[0].head, text)
	case found.tail != "":
		found.foot = append(found.foot, text)
	default:
		found.tail = text
	}
}

// behind hangs a comment in column col under the last entry before i that it lines up with.
func (p *parser) behind(i, col int, text string) {
	for j := i - 1; j >= 0; j-- {
		if e := p.written[j]; e.col <= col || j == 0 {
			e.foot = append(e.foot, text)
			return
		}
	}
}
