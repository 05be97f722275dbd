package schemas

import (
	"slices"
	"strconv"
)

// A Row is a row of a Parquet file: one of the row types of this package.
type Row interface {
	// RowKey is the identity by which rows are ranked, split and, where a set is one of unique rows,
	// deduplicated: rows with equal keys stand side by side and in one split.
	RowKey() string
	// RowTie orders rows with equal keys; the first is the one that a unique set keeps.
	RowTie() string
	// Validate reports every fault of the row, each naming row and field.
	Validate() error
}

// tie joins parts with a byte that no UTF-8 text holds, so that ("a","bc") and ("ab","c") differ.
func tie(parts ...string) string {
	var out []byte
	for _, p := range parts {
		out = append(append(out, p...), 0xff)
	}
	return string(out)
}

// RowKey is the prompt's ID.
func (r Prompt) RowKey() string { return r.ID }

// RowTie is where the prompt came from.
func (r Prompt) RowTie() string { return tie(r.Source, r.SourceID) }

// RowKey is the pair's ID.
func (r RewritePair) RowKey() string { return r.ID }

// RowTie is where the pair came from.
func (r RewritePair) RowTie() string { return tie(r.Source, r.SourceID) }

// RowKey is the candidate's ID.
func (r Candidate) RowKey() string { return r.ID }

// RowTie is the position among the answers asked for.
func (r Candidate) RowTie() string { return tie(strconv.Itoa(int(r.Index)), r.Policy) }

// RowKey is the judgment's ID.
func (r Judgment) RowKey() string { return r.ID }

// RowTie is the judge.
func (r Judgment) RowTie() string { return tie(r.Judge, r.Template) }

// RowKey is the candidate's ID.
func (r Reward) RowKey() string { return r.CandidateID }

// RowTie is the prompt's ID.
func (r Reward) RowTie() string { return r.PromptID }

// RowKey is the prompt's ID: the pairs of one prompt share a split.
func (r PreferencePair) RowKey() string { return r.PromptID }

// RowTie is the pair's ID.
func (r PreferencePair) RowTie() string { return tie(r.Kind, r.ID) }

// RowKey is the prompt's ID: the pairs of one prompt share a split.
func (r VisionPreferencePair) RowKey() string { return r.PromptID }

// RowTie is the pair's ID.
func (r VisionPreferencePair) RowTie() string { return tie(r.Kind, r.ID) }

// RowKey is a hash of the task and the text of the last user message: two examples that ask the same are
// duplicates, whatever the answers.
func (r ChatExample) RowKey() string { return hashID("question", r.Task, lastUser(r.Messages)) }

// RowTie is where the example came from.
func (r ChatExample) RowTie() string { return tie(r.Source, r.SourceID, r.ID) }

// RowKey is a hash of the task, the text of the last user message and the pictures: two examples that
// ask the same about the same pictures are duplicates, whatever the answers.
func (r VisionChatExample) RowKey() string {
	return hashID(appendImages([]string{"question", r.Task, lastUser(r.Messages)}, r.Images)...)
}

// RowTie is where the example came from.
func (r VisionChatExample) RowTie() string { return tie(r.Source, r.SourceID, r.ID) }

// RowKey is a hash of the stage, the key there, the reason and the attempts.
func (r Rejected) RowKey() string {
	return hashID("rejected", r.Stage, r.Key, r.Reason, strconv.Itoa(int(r.Attempts)))
}

// RowTie is what the row held.
func (r Rejected) RowTie() string { return tie(r.Payload, r.Detail) }

func lastUser(messages []Message) string {
	for _, m := range slices.Backward(messages) {
		if m.Role == RoleUser {
			return m.Content
		}
	}
	return ""
}
