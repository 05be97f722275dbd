package schemas

import (
	"encoding/hex"
	"slices"
	"strings"
)

// Preferences of a Fact.
const (
	First  = "first"
	Second = "second"
	// Tie says that people were asked and found neither better.
	Tie = "tie"
	// NoPreference says that nobody was asked.
	NoPreference = ""
)

// Values of a fact_source column: who said what a Fact says.
const (
	FactHuman = "human"
	// FactOracle is the procedural world's own measure with noise, in people's place.
	FactOracle = "oracle"
	// FactNone is for pairs that nobody judged: they are in no accuracy figure.
	FactNone = "none"
)

// A Fact is what people said about two pictures, or two pictures about which they said nothing.
type Fact struct {
	// ID is FactID(Aspect, Prompt, FirstID, SecondID).
	ID string `json:"id" parquet:"id,optional,zstd"`
	// Group is GroupID(Prompt, FirstID, SecondID): facts that share a prompt share a group, hence a split.
	Group string `json:"group" parquet:"group,optional,zstd"`
	// Source is the name of the input in the recipe, SourceID the row's own id there ("" if none), Split
	// the part of the source that the row is in (train, test ...; "" if it has no parts).
	Source   string `json:"source" parquet:"source,optional,dict,zstd"`
	SourceID string `json:"source_id" parquet:"source_id,optional,zstd"`
	Split    string `json:"split" parquet:"split,optional,dict,zstd"`
	// Aspect is aesthetic or pick (alignment for the oracle only).
	Aspect string `json:"aspect" parquet:"aspect,optional,dict,zstd"`
	// Prompt is what both pictures were drawn from, "" for photographs.
	Prompt string   `json:"prompt" parquet:"prompt,optional,zstd"`
	First  ImageRef `json:"first" parquet:"first,optional"`
	Second ImageRef `json:"second" parquet:"second,optional"`
	// FirstID and SecondID are the pictures' names, source included (pickapic/UID, ava/953619): what a
	// split by picture goes by, known before any picture is read.
	FirstID  string `json:"first_id" parquet:"first_id,optional,zstd"`
	SecondID string `json:"second_id" parquet:"second_id,optional,zstd"`
	// Preference is first, second, tie or "": see NoPreference.
	Preference string `json:"preference" parquet:"preference,optional,dict,zstd"`
	// FactSource is human, oracle or none; none exactly where there is no preference.
	FactSource string `json:"fact_source" parquet:"fact_source,optional,dict,zstd"`
	// FirstScore and SecondScore are on the source's own scale, nil where it compares without scores.
	FirstScore  *float64 `json:"first_score" parquet:"first_score,optional"`
	SecondScore *float64 `json:"second_score" parquet:"second_score,optional"`
}

// Orders in which a teacher or judge saw the pictures of a fact.
const (
	// AsIs shows First as Image 1, Swapped as Image 2.
	AsIs    = "as_is"
	Swapped = "swapped"
)

// An Evaluation is a teacher's scoring of two pictures that agreed with the fact: one row of the
// evaluation set (paper 3.1). A trainer takes it by its messages and images columns.
type Evaluation struct {
	// ID is VisionID(TaskEvaluation, Messages, digests of Images).
	ID string `json:"id" parquet:"id,optional,zstd"`
	// Group, FactID, Source, Aspect, Preference and FactSource are the fact's.
	Group      string `json:"group" parquet:"group,optional,zstd"`
	FactID     string `json:"fact_id" parquet:"fact_id,optional,zstd"`
	Source     string `json:"source" parquet:"source,optional,dict,zstd"`
	Aspect     string `json:"aspect" parquet:"aspect,optional,dict,zstd"`
	Preference string `json:"preference" parquet:"preference,optional,dict,zstd"`
	FactSource string `json:"fact_source" parquet:"fact_source,optional,dict,zstd"`
	// Messages are the question without the truth cue and, last, the teacher's answer as it came.
	Messages []Message `json:"messages" parquet:"messages,optional,list" parquet-element:",optional"`
	// Images are Image 1 and Image 2 of the messages. A Path is the digest of the bytes with the format's ending.
	Images []Image `json:"images" parquet:"images,optional,list" parquet-element:",optional"`
	// Order is as_is or swapped.
	Order string `json:"order" parquet:"order,optional,dict,zstd"`
	// Score1 and Score2 are what the answer gives Image 1 and Image 2, on the template's scale.
	Score1 float64 `json:"score1" parquet:"score1,optional"`
	Score2 float64 `json:"score2" parquet:"score2,optional"`
	// Attempt is how many answers with other seeds came before this one.
	Attempt  int32  `json:"attempt" parquet:"attempt,optional"`
	Template string `json:"template" parquet:"template,optional,dict,zstd"`
	// Teacher is the identity (weights digest) of the model that answered.
	Teacher string `json:"teacher" parquet:"teacher,optional,dict,zstd"`
}

// Places of the standard answer in a judgment question.
const (
	AnswerA = "a"
	AnswerB = "b"
)

// A JudgmentExample is a teacher's scoring of a standard and an irrelevant answer about two pictures, the
// standard one strictly higher: one row of the judgment set (paper 3.1).
type JudgmentExample struct {
	// ID is VisionID(TaskJudgment, Messages, digests of Images).
	ID string `json:"id" parquet:"id,optional,zstd"`
	// Group, FactID, Source, Aspect and FactSource are those of the standard answer's fact.
	Group      string `json:"group" parquet:"group,optional,zstd"`
	FactID     string `json:"fact_id" parquet:"fact_id,optional,zstd"`
	Source     string `json:"source" parquet:"source,optional,dict,zstd"`
	Aspect     string `json:"aspect" parquet:"aspect,optional,dict,zstd"`
	FactSource string `json:"fact_source" parquet:"fact_source,optional,dict,zstd"`
	// StandardID and IrrelevantID are the Evaluations that the two answers come from: same aspect, no
	// picture in common.
	StandardID   string `json:"standard_id" parquet:"standard_id,optional,zstd"`
	IrrelevantID string `json:"irrelevant_id" parquet:"irrelevant_id,optional,zstd"`
	// Messages are the question with both answers and, last, the teacher's judgment as it came.
	Messages []Message `json:"messages" parquet:"messages,optional,list" parquet-element:",optional"`
	// Images are Image 1 and Image 2 as the standard answer saw them.
	Images []Image `json:"images" parquet:"images,optional,list" parquet-element:",optional"`
	// Standard is a or b: where the standard answer stood.
	Standard string `json:"standard" parquet:"standard,optional,dict,zstd"`
	// StandardScore and IrrelevantScore are the teacher's, from 1 to 5.
	StandardScore   float64 `json:"standard_score" parquet:"standard_score,optional"`
	IrrelevantScore float64 `json:"irrelevant_score" parquet:"irrelevant_score,optional"`
	// Score1 and Score2 are what the standard answer gives the pictures: the cell of the histogram that
	// the set is levelled by.
	Score1   float64 `json:"score1" parquet:"score1,optional"`
	Score2   float64 `json:"score2" parquet:"score2,optional"`
	Attempt  int32   `json:"attempt" parquet:"attempt,optional"`
	Template string  `json:"template" parquet:"template,optional,dict,zstd"`
	Teacher  string  `json:"teacher" parquet:"teacher,optional,dict,zstd"`
}

// FactID is the hash of what a fact is about. Two rows of a source that people answered differently about
// the same pair have one ID: they contradict each other.
func FactID(aspect, prompt, firstID, secondID string) string {
	return hashID("fact", aspect, prompt, firstID, secondID)
}

// GroupID is PromptID(prompt), or where there is none a hash of the two pictures in either order.
func GroupID(prompt, firstID, secondID string) string {
	if prompt != "" {
		return PromptID(prompt)
	}
	return hashID("pictures", min(firstID, secondID), max(firstID, secondID))
}

// VisionID is ExampleID for pictures that are known by their SHA-256, in lower-case hex.
func VisionID(task string, messages []Message, sha256s ...string) string {
	parts := appendMessages([]string{"example", task}, messages)
	for _, s := range sha256s {
		digest, err := hex.DecodeString(s)
		if err != nil {
			panic("schemas: " + s + " is not a SHA-256") // a programming fault: they come from the store
		}
		parts = append(parts, string(digest))
	}
	return hashID(parts...)
}

// RowKey is the group: facts about one prompt share a split.
func (r Fact) RowKey() string { return r.Group }

// RowTie is the fact's ID, and where it came from.
func (r Fact) RowTie() string { return tie(r.ID, r.Source, r.SourceID) }

// RowKey is the fact's group.
func (r Evaluation) RowKey() string { return r.Group }

// RowTie is the fact, the order and the answer.
func (r Evaluation) RowTie() string { return tie(r.FactID, r.Order, r.ID) }

// RowKey is the fact's group.
func (r JudgmentExample) RowKey() string { return r.Group }

// RowTie is the fact and the answers.
func (r JudgmentExample) RowTie() string { return tie(r.FactID, r.ID) }

var aspects = []string{Aesthetic, Pick, Alignment}

// Validate wants two pictures, a preference exactly where somebody stated one, and scores that do not
// contradict it.
func (r Fact) Validate() error {
	f := faultsOf("fact", r.ID)
	f.text("group", r.Group)
	f.utf8("source", r.Source)
	f.utf8("source_id", r.SourceID)
	f.utf8("split", r.Split)
	f.oneOf("aspect", r.Aspect, aspects...)
	f.utf8("prompt", r.Prompt)
	f.picture("first", r.First)
	f.picture("second", r.Second)
	f.text("first_id", r.FirstID)
	f.text("second_id", r.SecondID)
	if r.FirstID == r.SecondID {
		f.add("second_id", "%q is the first picture too", r.SecondID)
	}
	f.oneOf("preference", r.Preference, First, Second, Tie, NoPreference)
	f.oneOf("fact_source", r.FactSource, FactHuman, FactOracle, FactNone)
	if (r.FactSource == FactNone) != (r.Preference == NoPreference) {
		f.add("fact_source", "%q with preference %q", r.FactSource, r.Preference)
	}
	if (r.FirstScore == nil) != (r.SecondScore == nil) {
		f.add("second_score", "one picture has a score, the other has none")
	} else if r.FirstScore != nil {
		a, b := *r.FirstScore, *r.SecondScore
		f.finite("first_score", a)
		f.finite("second_score", b)
		if r.Preference == First && a <= b || r.Preference == Second && a >= b {
			f.add("preference", "%s, but the scores are %v and %v", r.Preference, a, b)
		}
	}
	return f.err()
}

// Validate wants a question with two pictures, an answer, and scores in the order of the fact's
// preference, strictly.
func (r Evaluation) Validate() error {
	f := faultsOf("evaluation", r.ID)
	f.vision(r.Group, r.FactID, r.Aspect, r.FactSource, r.Messages, r.Images)
	f.oneOf("order", r.Order, AsIs, Swapped)
	f.oneOf("preference", r.Preference, First, Second, NoPreference)
	if (r.FactSource == FactNone) != (r.Preference == NoPreference) {
		f.add("fact_source", "%q with preference %q", r.FactSource, r.Preference)
	}
	f.finite("score1", r.Score1)
	f.finite("score2", r.Score2)
	a, b := r.Score1, r.Score2
	if r.Order == Swapped {
		a, b = b, a
	}
	if r.Preference == First && !(a > b) || r.Preference == Second && !(b > a) || r.Preference == NoPreference && a == b {
		f.add("score1", "%v and %v in order %s do not agree with preference %q", r.Score1, r.Score2, r.Order, r.Preference)
	}
	f.atLeast("attempt", int64(r.Attempt), 0)
	f.utf8("source", r.Source)
	f.utf8("template", r.Template)
	f.text("teacher", r.Teacher)
	return f.err()
}

// Validate wants a question with two pictures, a judgment, and a standard answer that is strictly better.
func (r JudgmentExample) Validate() error {
	f := faultsOf("judgment example", r.ID)
	f.vision(r.Group, r.FactID, r.Aspect, r.FactSource, r.Messages, r.Images)
	f.text("standard_id", r.StandardID)
	f.text("irrelevant_id", r.IrrelevantID)
	if r.StandardID == r.IrrelevantID {
		f.add("irrelevant_id", "%q is the standard answer too", r.IrrelevantID)
	}
	f.oneOf("standard", r.Standard, AnswerA, AnswerB)
	f.finite("standard_score", r.StandardScore)
	f.finite("irrelevant_score", r.IrrelevantScore)
	if !(r.StandardScore > r.IrrelevantScore) {
		f.add("standard_score", "%v is not above irrelevant_score, %v", r.StandardScore, r.IrrelevantScore)
	}
	f.finite("score1", r.Score1)
	f.finite("score2", r.Score2)
	f.atLeast("attempt", int64(r.Attempt), 0)
	f.utf8("source", r.Source)
	f.utf8("template", r.Template)
	f.text("teacher", r.Teacher)
	return f.err()
}

// vision checks what the two kinds of supervised rows about pictures share.
func (f *faults) vision(group, factID, aspect, factSource string, messages []Message, images []Image) {
	f.text("group", group)
	f.text("fact_id", factID)
	f.oneOf("aspect", aspect, aspects...)
	f.oneOf("fact_source", factSource, FactHuman, FactOracle, FactNone)
	f.messages("messages", messages, RoleAssistant)
	if !slices.ContainsFunc(messages, func(m Message) bool { return m.Role == RoleUser }) {
		f.add("messages", "no user message")
	}
	if len(images) != 2 {
		f.add("images", "%d pictures, not two", len(images))
	}
	f.images("images", images)
}

func (f *faults) picture(field string, r ImageRef) {
	if len(r.SHA256) != 64 || strings.Trim(r.SHA256, "0123456789abcdef") != "" {
		f.add(field, "sha256 %q is not 64 lower-case hex digits", r.SHA256)
	}
	f.atLeast(field+".width", int64(r.Width), 1)
	f.atLeast(field+".height", int64(r.Height), 1)
}
