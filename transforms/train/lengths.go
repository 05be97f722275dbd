package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/conformance"
)

// lengths completes a gate with what the start's folder says of lengths, and returns how they are counted. Both ways of
// counting are lower bounds, so that no row is refused that a trainer could take: the tokens of the texts alone, without
// those of the chat template, or, where no folder with a tokenizer is here, the words.
func lengths(gate conformance.Config, start string) (conformance.Config, conformance.Counter, error) {
	folder := jobfolder.Local(start)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		folder = ""
	}
	if folder != "" && gate.ContextWindow == 0 {
		window, err := contextWindow(folder)
		if err != nil {
			return gate, nil, err
		}
		gate.ContextWindow = window
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
	return gate, func(messages []schemas.Message) (int, error) {
		n := 0
		for _, m := range messages {
			n += count(m.Content)
		}
		return n, nil
	}, nil
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
