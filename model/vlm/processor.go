package vlm

import (
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/tokenizer"
)

// A Processor turns conversations into tokens by a folder's configuration files alone, without its graphs: for those who
// want to know how long a row is before a model is loaded. It is safe for concurrent use.
type Processor struct{ processor }

// processor is what a Model and a Processor have in common.
type processor struct {
	settings *settings
	tokens   *tokenizer.Tokenizer
}

// OpenProcessor reads the configuration files of a folder. It wants a tokenizer, a chat template and a token that ends an
// answer, and is content with models that see no pictures, or pictures of any size. Its errors name the file; they wrap
// ErrFolder.
func OpenProcessor(folder string) (*Processor, error) {
	p, err := readProcessor(folder)
	if err != nil {
		return nil, fmt.Errorf("vlm: %w", err)
	}
	return &Processor{p}, nil
}

func readProcessor(folder string) (p processor, err error) {
	if p.tokens, err = tokenizer.Open(folder); err != nil {
		return p, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	p.settings, err = readSettings(folder, p.tokens)
	return p, err
}

// Context is the most tokens that a prompt and its answer may have together; 0 is no bound.
func (p *Processor) Context() int { return p.settings.text.Context }

// ImageTokens is how many tokens a picture takes, as the folder says; 0 if it does not.
func (p *Processor) ImageTokens() int { return max(0, p.settings.places) }

// Count returns for each answer how many tokens it has with the prompt before it, as Encoder would write them: the
// template's, the padding's, those of the pictures, of which each takes so many places, and the end's. It knows no bound. A
// conversation that the template refuses is model.ErrRejected. Where pictures are not written in one of the ways that
// Encoder knows, it is a lower bound.
func (p *Processor) Count(messages []model.Message, places int, answers ...string) ([]int, error) {
	ids, err := p.tokenize(messages)
	if err != nil {
		return nil, err
	}
	each := picturesOf(messages, max(1, places))
	n := 0
	if laid, err := p.layOut(ids, each); err == nil {
		n = len(laid)
	} else {
		n = len(p.settings.padding.apply(ids)) + places*len(each)
	}
	counts := make([]int, len(answers))
	for i, text := range answers {
		counts[i] = n + len(p.answer(text))
	}
	return counts, nil
}

// picturesOf lists the places of each picture, if all take as many.
func picturesOf(messages []model.Message, places int) []int {
	var each []int
	for _, message := range messages {
		for _, part := range message.Parts {
			if part.Picture != nil {
				each = append(each, places)
			}
		}
	}
	return each
}

// tokenize is what the chat template makes of a conversation.
func (p processor) tokenize(messages []model.Message) ([]int32, error) {
	s := p.settings
	text, err := s.template.render(messages)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrRejected, err)
	}
	ids := p.tokens.Encode(text, s.bos == "" || !strings.HasPrefix(text, s.bos))
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: the chat template makes nothing of the conversation", model.ErrRejected)
	}
	return ids, nil
}

// layOut makes room for pictures of so many features each, and pads.
func (p processor) layOut(ids []int32, each []int) ([]int32, error) {
	ids, err := p.settings.image.place(ids, each)
	if err != nil {
		return nil, err
	}
	return p.settings.padding.apply(ids), nil
}

// fits refuses a prompt that leaves no room for an answer.
func (p processor) fits(ids []int32) error {
	if most := p.settings.text.Context; most > 0 && len(ids) >= most {
		return p.tooLong(len(ids))
	}
	return nil
}

func (p processor) tooLong(tokens int) error {
	return fmt.Errorf("%w: the prompt has %d tokens; the model takes %d with the answer; shorten the text", model.ErrRejected, tokens, p.settings.text.Context)
}

// answer are the tokens of an answer and the first end token after them.
func (p processor) answer(text string) []int32 {
	return append(p.tokens.Encode(text, false), p.settings.eos[0])
}

// place gives each picture as many image tokens as it has features. A template writes one for a picture, or all.
func (t imageTokens) place(ids []int32, each []int) ([]int32, error) {
	found, all := 0, 0
	for _, id := range ids {
		if id == t.token {
			found++
		}
	}
	for _, n := range each {
		all += n
	}
	switch found {
	case len(each):
	case all:
		return ids, nil
	default:
		return nil, fmt.Errorf("%w: the conversation has %d pictures and its text %d places %s for them; the text must not contain that token, and the chat template must write it",
			model.ErrRejected, len(each), found, t.name)
	}
	out := make([]int32, 0, len(ids)+all)
	for _, id := range ids {
		if id != t.token {
			out = append(out, id)
			continue
		}
		out = append(out, t.before...)
		for range each[0] {
			out = append(out, t.token)
		}
		out = append(out, t.after...)
		each = each[1:]
	}
	return out, nil
}
