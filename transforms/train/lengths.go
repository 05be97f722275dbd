package train

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/conformance"
)

// lengths completes a gate with what the start's folder says of lengths, and returns how they are counted. Where the folder
// has a chat template, a row is written as the embedded trainer writes it. The other ways are lower bounds, so that no row
// is refused that a trainer could take: the tokens of the texts alone, or, where no folder with a tokenizer is here, the words.
func lengths(gate conformance.Config, start string) (conformance.Config, conformance.Counter, error) {
	folder := jobfolder.Local(start)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		folder = ""
	}
	if folder != "" {
		window, err := contextWindow(folder)
		if err != nil {
			return gate, nil, err
		}
		// A template that cannot be written here may be no trouble to another trainer; the tokenizer's faults come up below.
		if p, err := vlm.OpenProcessor(folder); err == nil {
			gate.ContextWindow = cmp.Or(gate.ContextWindow, p.Context(), window)
			places := cmp.Or(gate.ImageTokens, p.ImageTokens())
			gate.ImageTokens, gate.Counted = 0, "counted through the start's chat template"
			return gate, written(p, places), nil
		}
		gate.ContextWindow = cmp.Or(gate.ContextWindow, window)
	}
	if gate.ContextWindow == 0 {
		return gate, nil, nil
	}
	count, by := func(text string) int { return len(strings.Fields(text)) }, "estimated from below: words"
	if folder != "" {
		switch t, err := tokenizer.Open(folder); {
		case err == nil:
			count, by = t.Count, "counted with the start's tokenizer, without the chat template"
		case !errors.Is(err, fs.ErrNotExist):
			return gate, nil, fmt.Errorf("lengths of the rows: %w", err)
		}
	}
	gate.Counted = by
	return gate, said(count), nil
}

// written counts rows as p writes them, with pictures that take so many places.
func written(p *vlm.Processor, places int) conformance.Counter {
	return func(row dataset.Row) ([]int, error) {
		prompt, answers := row.Turns()
		messages, err := dataset.Conversation(prompt, row.Images)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", model.ErrRejected, err)
		}
		texts := make([]string, len(answers))
		for i, answer := range answers {
			for _, m := range answer {
				texts[i] += m.Content
			}
		}
		return p.Count(messages, places, texts...)
	}
}

// said counts what the messages of rows say, and nothing around it.
func said(count func(text string) int) conformance.Counter {
	all := func(messages []schemas.Message) (n int) {
		for _, m := range messages {
			n += count(m.Content)
		}
		return n
	}
	return func(row dataset.Row) ([]int, error) {
		prompt, answers := row.Turns()
		counts := make([]int, len(answers))
		for i, answer := range answers {
			counts[i] = all(prompt) + all(answer)
		}
		return counts, nil
	}
}

// contextWindow is what config.json of a model's folder says, 0 if it does not.
func contextWindow(folder string) (int, error) {
	path := filepath.Join(folder, "config.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var config struct {
		Positions int `json:"max_position_embeddings"`
		Text      struct {
			Positions int `json:"max_position_embeddings"`
		} `json:"text_config"`
	}
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		return 0, fmt.Errorf("context window: %s: %w", path, err)
	}
	return max(config.Positions, config.Text.Positions, 0), nil
}
