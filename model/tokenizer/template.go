package tokenizer

import "fmt"

// A template puts the ids of special tokens around those of a text. A nil part is the text.
type template [][]int32

// newTemplates flattens sequences; what only moves offsets, as ByteLevel, leaves no template.
func newTemplates(n *node, at string) ([]template, error) {
	if n == nil {
		return nil, nil
	}
	switch n.Type {
	case "Sequence":
		var all []template
		for i := range n.Processors {
			t, err := newTemplates(&n.Processors[i], fmt.Sprintf("%s.processors[%d]", at, i))
			if err != nil {
				return nil, err
			}
			all = append(all, t...)
		}
		return all, nil
	case "ByteLevel":
		return nil, nil
	case "RobertaProcessing", "BertProcessing":
		for name, token := range map[string]tokenAndID{"cls": n.Cls, "sep": n.Sep} {
			if !token.set {
				return nil, fmt.Errorf(`%s.%s: it must be ["token", id]`, at, name)
			}
		}
		return []template{{{n.Cls.id}, nil, {n.Sep.id}}}, nil
	case "TemplateProcessing":
		t, err := newTemplate(n, at)
		return []template{t}, err
	}
	return nil, fmt.Errorf("%s.type: %q is not supported: Sequence, ByteLevel, RobertaProcessing, BertProcessing and "+
		"TemplateProcessing are", at, n.Type)
}

func newTemplate(n *node, at string) (template, error) {
	t := template{}
	texts := 0
	for i, p := range n.Single {
		switch {
		case p.Sequence != nil && p.Sequence.ID == "A":
			t = append(t, nil)
			texts++
		case p.SpecialToken != nil:
			token, ok := n.SpecialTokens[p.SpecialToken.ID]
			if !ok {
				return nil, fmt.Errorf("%s.single[%d]: %q is not in special_tokens", at, i, p.SpecialToken.ID)
			}
			t = append(t, append([]int32{}, token.IDs...))
		default:
			return nil, fmt.Errorf("%s.single[%d]: neither Sequence A nor a SpecialToken", at, i)
		}
	}
	if texts != 1 {
		return nil, fmt.Errorf("%s.single: it has the text %d times", at, texts)
	}
	return t, nil
}

// adds is the number of special tokens.
func (t template) adds() int {
	n := 0
	for _, p := range t {
		n += len(p)
	}
	return n
}

func (t template) apply(ids []int32, special bool) []int32 {
	if !special {
		return ids
	}
	out := make([]int32, 0, len(ids)+t.adds())
	for _, p := range t {
		if p == nil {
			p = ids
		}
		out = append(out, p...)
	}
	return out
}
