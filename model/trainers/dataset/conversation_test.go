package dataset_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/schemas"
)

func TestTurns(t *testing.T) {
	system, asked, said := say("system", "Be brief."), say("user", "a cat"), say("assistant", "a fluffy cat")
	other := say("assistant", "cat")
	for name, c := range map[string]struct {
		row     dataset.Row
		prompt  []schemas.Message
		answers [][]schemas.Message
	}{
		"conversation": {
			dataset.Row{Messages: []schemas.Message{system, asked, said}},
			[]schemas.Message{system, asked},
			[][]schemas.Message{{said}},
		},
		"pair": {
			dataset.Row{Messages: []schemas.Message{asked}, Chosen: []schemas.Message{said}, Rejected: []schemas.Message{other}, Preference: true},
			[]schemas.Message{asked},
			[][]schemas.Message{{said}, {other}},
		},
		"nothing": {dataset.Row{}, nil, [][]schemas.Message{nil}},
	} {
		prompt, answers := c.row.Turns()
		if diff := cmp.Diff(c.prompt, prompt) + cmp.Diff(c.answers, answers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Pictures stand where the placeholders are, or before what the user says first.
func TestConversation(t *testing.T) {
	one, two := schemas.Image{Bytes: []byte("1")}, schemas.Image{Bytes: []byte("2")}
	for name, c := range map[string]struct {
		messages []schemas.Message
		images   []schemas.Image
		want     string // "" is an error
	}{
		"text":             {[]schemas.Message{say("system", "s"), say("user", "u")}, nil, "system: s; user: u"},
		"implied":          {[]schemas.Message{say("system", "s"), say("user", "u"), say("assistant", "a"), say("user", "v")}, []schemas.Image{one, two}, "system: s; user: [1][2]u; assistant: a; user: v"},
		"explicit":         {[]schemas.Message{say("user", "A <image> B"), say("assistant", "a"), say("user", "<image>")}, []schemas.Image{one, two}, "user: A [1] B; assistant: a; user: [2]"},
		"text of a place":  {[]schemas.Message{say("user", "<image>")}, nil, "user: <image>"},
		"a place too many": {[]schemas.Message{say("user", "<image><image>")}, []schemas.Image{one}, ""},
		"nobody to show":   {[]schemas.Message{say("system", "s")}, []schemas.Image{one}, ""},
		"another role":     {[]schemas.Message{say("tool", "s")}, nil, ""},
		"nothing":          {nil, nil, ""},
	} {
		messages, err := dataset.Conversation(c.messages, c.images)
		var turns []string
		for _, m := range messages {
			turn := m.Role + ": "
			for _, p := range m.Parts {
				if turn += p.Text; p.Picture != nil {
					data, err := p.Picture.Bytes(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					turn += fmt.Sprintf("[%s]", data)
				}
			}
			turns = append(turns, turn)
		}
		if got := strings.Join(turns, "; "); got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}
