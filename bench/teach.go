package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/promptmill/promptmill/schemas"
)

// teachChild is the server of the mixture benchmark, for teacher and pictures: it serves until it is killed.
// What it answers is a function of the request. It agrees with a cue with the probability mixtureTeacherHit,
// without one it has a taste of its own, and it knows an answer about the pictures that it is shown from one
// about others, because its answers name what they speak of.
func teachChild(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", teach)
	mux.HandleFunc("POST /sdapi/v1/txt2img", draw)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return s.Serve(l)
}

// named is a number for what parts say.
func named(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write(binary.LittleEndian.AppendUint64([]byte(p), uint64(len(p))))
	}
	return h.Sum64()
}

type teachRequest struct {
	Messages []struct {
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Seed int64 `json:"seed"`
}

type teachPart struct {
	Text     string `json:"text"`
	ImageURL struct {
		URL string `json:"url"`
	} `json:"image_url"`
}

func teach(w http.ResponseWriter, r *http.Request) {
	var q teachRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || len(q.Messages) == 0 {
		http.Error(w, `{"error":{"message":"no request"}}`, http.StatusBadRequest)
		return
	}
	var parts []teachPart
	if err := json.Unmarshal(q.Messages[len(q.Messages)-1].Content, &parts); err != nil {
		// A text alone: what a client asks to find out what the server can do.
		parts = []teachPart{{Text: string(q.Messages[len(q.Messages)-1].Content)}}
	}
	var pictures []string
	var text string
	for _, p := range parts {
		if p.ImageURL.URL != "" {
			pictures = append(pictures, fmt.Sprintf("subject %016x", named(p.ImageURL.URL)))
		} else {
			text = p.Text
		}
	}
	for len(pictures) < 2 {
		pictures = append(pictures, "nothing")
	}
	rng := rand.New(rand.NewPCG(named(append(pictures, text)...), uint64(q.Seed)))
	answer := explain(rng, text, pictures)
	reply(w, map[string]any{
		"id": "1", "object": "chat.completion", "created": 1700000000,
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]string{"role": schemas.RoleAssistant, "content": answer}}},
		"usage":   map[string]int{"prompt_tokens": 900, "completion_tokens": 150, "total_tokens": 1050},
	})
}

// explain is the text of one answer.
func explain(rng *rand.Rand, text string, pictures []string) string {
	const form = "Output for %[1]s %[2]s:\nScore: %[4]d\nExplanation: It shows %[6]s%[8]s\n" +
		"Output for %[1]s %[3]s:\nScore: %[5]d\nExplanation: It shows %[7]s%[8]s"
	reasons := strings.Repeat(", in light and colours that hold together, and every part is where it should be", 2) + "."
	if _, answers, ok := strings.Cut(text, "\nAnswer A:\n"); ok {
		a, _, _ := strings.Cut(answers, "\nAnswer B:\n")
		good, bad := strictly(rng, 1, 0.93)
		if !strings.Contains(a, pictures[0]) {
			good, bad = bad, good
		}
		return fmt.Sprintf(form, "Answer", "A", "B", good, bad, pictures[0], pictures[1], reasons)
	}
	_, cue, cued := strings.Cut(text, "The one they rated higher is ")
	better, worse := strictly(rng, 0, mixtureTeacherHit)
	switch {
	case cued && strings.HasPrefix(cue, "Image 2"):
		better, worse = worse, better
	case !cued:
		// The better name wins, wherever it stands.
		better, worse = 4, 2
		if pictures[0] < pictures[1] {
			better, worse = worse, better
		}
	}
	return fmt.Sprintf(form, "Image", "1", "2", better, worse, pictures[0], pictures[1], reasons)
}

// strictly is two scores from low to 5, the first the greater with probability p; else they are equal or the
// other way round.
func strictly(rng *rand.Rand, low int, p float64) (first, second int) {
	first = low + 1 + rng.IntN(5-low)
	second = low + rng.IntN(first-low)
	if rng.Float64() < p {
		return first, second
	}
	if rng.IntN(2) == 0 {
		return second, second
	}
	return second, first
}

// draw answers a request for a picture.
func draw(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Prompt string `json:"prompt"`
		Seed   int64  `json:"seed"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, `{"detail":"no request"}`, http.StatusUnprocessableEntity)
		return
	}
	data, err := picture(named(q.Prompt, fmt.Sprint(q.Seed)) | 1<<63)
	if err != nil {
		http.Error(w, `{"detail":"no picture"}`, http.StatusInternalServerError)
		return
	}
	reply(w, map[string]any{"images": [][]byte{data}, "parameters": map[string]any{}, "info": fmt.Sprintf(`{"seed":%d}`, q.Seed)})
}

func reply(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(http.ErrAbortHandler) // the client left
	}
}
