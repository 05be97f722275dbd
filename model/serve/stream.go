package serve

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// A stream is a reply of server-sent events. Models answer whole, so each choice is one piece, and one
// that says how it ended.
type stream struct {
	whole completion
	usage bool
}

func (st stream) events() []completion {
	head := st.whole
	head.Object, head.Usage = "chat.completion.chunk", nil
	event := func(c ...choice) completion {
		e := head
		e.Choices = c
		return e
	}
	var out []completion
	for _, c := range st.whole.Choices {
		out = append(out, event(choice{Index: c.Index, Delta: c.Message}), event(choice{Index: c.Index, Delta: &said{}, Finish: c.Finish}))
	}
	if st.usage {
		last := head
		last.Choices, last.Usage = []choice{}, st.whole.Usage
		out = append(out, last)
	}
	return out
}

// send writes the events and the mark of the end, in one piece.
func (st stream) send(w http.ResponseWriter) error {
	var b bytes.Buffer
	for _, e := range st.events() {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b.WriteString("data: ")
		b.Write(line)
		b.WriteString("\n\n")
	}
	b.WriteString("data: [DONE]\n\n")
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	_, err := w.Write(b.Bytes())
	return err
}
