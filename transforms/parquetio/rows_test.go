package parquetio_test

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/schemas"
)

// The rows of the tests: n of each type, with zeros, empty texts and lists, nulls and text of many scripts.

var words = []string{"a cat", "eine Straße", "猫", "\u202eright to left", "🦊 fox", "quote \" and \\ and \n"}

func textOf(i int) string { return fmt.Sprintf("%s %d", words[i%len(words)], i) }

func prompts(n int) (rows []schemas.Prompt) {
	for i := range n {
		rows = append(rows, schemas.Prompt{ID: schemas.PromptID(textOf(i)), Text: textOf(i), Source: words[i%2][:0], SourceID: fmt.Sprint(i)})
	}
	return rows
}

func rewritePairs(n int) (rows []schemas.RewritePair) {
	for i := range n {
		raw, rewritten := textOf(i), textOf(i)+", oil on canvas"
		rows = append(rows, schemas.RewritePair{ID: schemas.PairID(raw, rewritten), Raw: raw, Rewritten: rewritten, Source: "s"})
	}
	return rows
}

func candidates(n int) (rows []schemas.Candidate) {
	for i := range n {
		r := schemas.Candidate{ID: fmt.Sprint("c", i), PromptID: fmt.Sprint("p", i/8), Index: int32(i % 8), Text: textOf(i), Policy: "w"}
		if i%3 > 0 {
			r.Image = schemas.ImageRef{SHA256: strings.Repeat("ab", 32), Width: 512, Height: 384, Seed: 1<<31 - int64(i), Attempt: int32(i % 3)}
		}
		rows = append(rows, r)
	}
	return rows
}

func judgments(n int) (rows []schemas.Judgment) {
	for i := range n {
		rows = append(rows, schemas.Judgment{
			ID: fmt.Sprint("j", i), PromptID: "p", CandidateID: fmt.Sprint("c", i/3), Aspect: schemas.Alignment, Sample: int32(i % 3),
			Score1: float64(i%6) / 2, Score2: 1.0 / 3, Decimal: i%2 == 0, Answer: textOf(i), Template: "paper/v1", Attempt: int32(i % 2),
		})
	}
	return rows
}

func rewards(n int) (rows []schemas.Reward) {
	for i := range n {
		r := schemas.Reward{CandidateID: fmt.Sprint("c", i), PromptID: "p", Samples: 3}
		if i%2 == 0 {
			zero, x := 0.0, float64(i)
			r.Aesthetic, r.Pick, r.Total = &zero, &x, x
		}
		rows = append(rows, r)
	}
	return rows
}

func messages(i int, roles ...string) (m []schemas.Message) {
	for j, role := range roles {
		m = append(m, schemas.Message{Role: role, Content: textOf(i*7 + j)})
	}
	return m
}

func preferences(n int) (rows []schemas.PreferencePair) {
	for i := range n {
		rows = append(rows, schemas.PreferencePair{
			ID: fmt.Sprint("x", i), Kind: schemas.KindRewrite, PromptID: fmt.Sprint("p", i), Prompt: messages(i, "system", "user", "assistant", "user")[i%2:],
			Chosen: messages(i, "assistant"), Rejected: messages(i+1, "assistant"), ChosenScore: float64(i + 1), RejectedScore: float64(i), Margin: 1, Judge: "j",
		})
	}
	return rows
}

func chats(n int) (rows []schemas.ChatExample) {
	for i := range n {
		rows = append(rows, schemas.ChatExample{ID: fmt.Sprint("e", i), Task: schemas.TaskRewrite, Messages: messages(i, "user", "assistant"), Source: "s", SourceID: fmt.Sprint(i % 5)})
	}
	return rows
}

func images(i int) []schemas.Image {
	out := []schemas.Image{} // not nil: that is how it is read back
	for j := range i % 3 {
		out = append(out, schemas.Image{Bytes: bytes.Repeat([]byte{0x89, 'P', byte(i), byte(j)}, 1+i*j), Path: []string{"", "a.png"}[j]})
	}
	return out
}

func visionPreferences(n int) (rows []schemas.VisionPreferencePair) {
	for i, r := range preferences(n) {
		rows = append(rows, schemas.VisionPreferencePair{
			ID: r.ID, Kind: schemas.KindJudgment, PromptID: r.PromptID, Prompt: r.Prompt, Chosen: r.Chosen, Rejected: r.Rejected,
			Images: images(i), ChosenScore: r.ChosenScore, RejectedScore: r.RejectedScore, Margin: r.Margin,
		})
	}
	return rows
}

func visionChats(n int) (rows []schemas.VisionChatExample) {
	for i, r := range chats(n) {
		rows = append(rows, schemas.VisionChatExample{ID: r.ID, Task: schemas.TaskEvaluation, Messages: r.Messages, Images: images(i + 1), Source: r.Source})
	}
	return rows
}

func rejects(n int) (rows []schemas.Rejected) {
	for i := range n {
		rows = append(rows, schemas.Rejected{Stage: "judge", Key: fmt.Sprint(i), Reason: "refused", Attempts: int32(i % 3), Payload: `{"text":"` + words[2] + `"}`})
	}
	return rows
}
