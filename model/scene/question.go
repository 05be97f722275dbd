package scene

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
)

// A question is what a conversation asks, found in it whatever the template's wording.
type question struct {
	// pictures are none for a rewriting, else Image 1 and Image 2.
	pictures []model.Picture
	// prompt is the raw prompt, "" where a question about pictures does not show it.
	prompt string
	// aspect is set for questions about pictures.
	aspect string
	// answers are A and B where the question is which judgment of the pictures is better.
	answers []string
	// terse is a question in the words of the tiny models, to be answered in theirs.
	terse bool
}

func readQuestion(req model.ChatRequest) (question, error) {
	var q question
	var text string
	for _, m := range req.Messages {
		var texts []string
		for _, p := range m.Parts {
			if p.Picture != nil {
				q.pictures = append(q.pictures, *p.Picture)
			} else {
				texts = append(texts, p.Text)
			}
		}
		if m.Role == "user" {
			text = strings.Join(texts, "\n")
		}
	}
	switch len(q.pictures) {
	case 0:
		q.prompt = rewriteOf(text)
		if q.prompt == "" {
			return q, fmt.Errorf("%w: the last user message has no prompt to rewrite", model.ErrRejected)
		}
		return q, nil
	case 2:
	default:
		return q, fmt.Errorf("%w: %d pictures; the scene judge compares two", model.ErrRejected, len(q.pictures))
	}
	if readTerse(&q, req.Messages) {
		return q, nil
	}
	text, q.answers = cutAnswers(text)
	var shown bool
	text, q.prompt, shown = cutPrompt(text)
	q.aspect = aspectOf(req.Template, text)
	if q.aspect != schemas.Aesthetic && !shown {
		return q, fmt.Errorf("%w: asks for %s without a Text: line that shows the prompt", model.ErrRejected, q.aspect)
	}
	return q, nil
}

var (
	promptLine = regexp.MustCompile(`(?m)^\W*Prompt:`)
	// A judge's template shows the raw prompt in a line of its own; "2. Prompt:" is how the paper's
	// judgment template does it.
	textLine = regexp.MustCompile(`(?m)^[\s\d.]*(?:Text|Prompt):[ \t]*\n?(.*)$`)
)

// rewriteOf finds the raw prompt of a rewrite request: all that follows the last "Prompt:", or the
// whole text; in one line.
func rewriteOf(text string) string {
	if at := promptLine.FindAllStringIndex(text, -1); at != nil {
		text = text[at[len(at)-1][1]:]
	} else if i := strings.LastIndex(text, "Prompt:"); i >= 0 {
		text = text[i+len("Prompt:"):]
	}
	return strings.TrimRight(strings.Join(strings.Fields(text), " "), " ,.;")
}

// cutPrompt takes the last line with the raw prompt out of the text, so that words of the prompt are
// not mistaken for words of the question.
func cutPrompt(text string) (rest, prompt string, shown bool) {
	all := textLine.FindAllStringSubmatchIndex(text, -1)
	if all == nil {
		return text, "", false
	}
	at := all[len(all)-1]
	return text[:at[0]] + text[at[1]:], strings.Trim(text[at[2]:at[3]], " \t\r{}<>"), true
}

var (
	aspectWord = regexp.MustCompile(`(?i)\b(?:(aesthetic|beautiful)|(align|match)|(pick|prefer|would like|appeal|attractive))`)
	aspects    = []string{schemas.Aesthetic, schemas.Alignment, schemas.Pick}
)

// aspectOf says which aspect a question is about: the one that the template's id names, else the one
// whose word comes first, else aesthetic.
func aspectOf(template, text string) string {
	for _, a := range aspects {
		if strings.Contains(template, a) {
			return a
		}
	}
	if at := aspectWord.FindStringSubmatch(text); at != nil {
		for i, a := range aspects {
			if at[i+1] != "" {
				return a
			}
		}
	}
	return schemas.Aesthetic
}

var (
	answerA = regexp.MustCompile(`(?im)^[\s\d.]*answer a\b:?|\banswer a:`)
	answerB = regexp.MustCompile(`(?im)^[\s\d.]*answer b\b:?|\banswer b:`)
	// What follows the second answer in a template.
	afterAnswers = regexp.MustCompile(`(?im)^\W*(?:your task|output format|output for answer|compare|rate|answer in)\b`)
)

// cutAnswers takes two judgments of the pictures, after the labels Answer A and Answer B, out of the
// text.
func cutAnswers(text string) (rest string, answers []string) {
	a := answerA.FindStringIndex(text)
	if a == nil {
		return text, nil
	}
	b := answerB.FindStringIndex(text[a[1]:])
	if b == nil {
		return text, nil
	}
	first, second := text[a[1]:a[1]+b[0]], text[a[1]+b[1]:]
	rest = text[:a[0]]
	if end := afterAnswers.FindStringIndex(second); end != nil {
		rest += second[end[0]:]
		second = second[:end[0]]
	}
	return rest, []string{first, second}
}
