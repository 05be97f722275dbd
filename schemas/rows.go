// Package schemas defines the rows of every data set that promptmill writes, their identities and
// their Parquet form.
//
// A row type is at once the element of a PCollection and the row of a Parquet file: exported fields
// only, no methods that touch I/O. Every level of every column is nullable, because readers of the
// Hugging Face metadata silently ignore it otherwise; yet promptmill writes a null only for a nil
// pointer (see Table.Append). Slate, Count and Shard are elements only, never rows of a file.
package schemas

// A Prompt is one short text that a person wrote for a text-to-image model.
type Prompt struct {
	// ID is PromptID(Text): equal texts have equal IDs.
	ID string `json:"id" parquet:"id,optional,zstd"`
	// Text is in Unicode NFC, with runs of white space folded to one space, and never empty.
	Text string `json:"text" parquet:"text,optional,zstd"`
	// Source is the name of the input in the recipe, SourceID the row's own id there ("" if none).
	Source   string `json:"source" parquet:"source,optional,dict,zstd"`
	SourceID string `json:"source_id" parquet:"source_id,optional,zstd"`
}

// A RewritePair is a raw prompt with a rewriting of it, as the supervised data bring it (paper 3.1).
type RewritePair struct {
	// ID is PairID(Raw, Rewritten).
	ID        string `json:"id" parquet:"id,optional,zstd"`
	Raw       string `json:"raw" parquet:"raw,optional,zstd"`
	Rewritten string `json:"rewritten" parquet:"rewritten,optional,zstd"`
	Source    string `json:"source" parquet:"source,optional,dict,zstd"`
	SourceID  string `json:"source_id" parquet:"source_id,optional,zstd"`
}

// An ImageRef names a picture in the blob store. The zero ImageRef means "no picture".
type ImageRef struct {
	// SHA256 is the lower-case hex digest of the encoded bytes; it is the picture's name.
	SHA256 string `json:"sha256" parquet:"sha256,optional,zstd"`
	Width  int32  `json:"width" parquet:"width,optional"`
	Height int32  `json:"height" parquet:"height,optional"`
	// Seed is the seed that drew it, Attempt how many draws came before it (black, flagged).
	Seed    int64 `json:"seed" parquet:"seed,optional"`
	Attempt int32 `json:"attempt" parquet:"attempt,optional"`
}

// A Candidate is one rewriting that the policy sampled for a prompt, with its picture once drawn.
type Candidate struct {
	// ID is CandidateID(PromptID, Text).
	ID       string `json:"id" parquet:"id,optional,zstd"`
	PromptID string `json:"prompt_id" parquet:"prompt_id,optional,zstd"`
	// Index is the position among the answers asked for, from 0.
	Index int32  `json:"index" parquet:"index,optional"`
	Text  string `json:"text" parquet:"text,optional,zstd"`
	// Policy is the identity (weights digest) of the model that wrote it.
	Policy string   `json:"policy" parquet:"policy,optional,dict,zstd"`
	Image  ImageRef `json:"image" parquet:"image,optional"`
}

// Aspects of a picture that the judge scores (paper 3.5).
const (
	Aesthetic = "aesthetic"
	Pick      = "pick"
	Alignment = "alignment"
)

// A Judgment is one sampled answer of the judge about one candidate and one aspect.
type Judgment struct {
	// ID is JudgmentID(PromptID, CandidateID, Aspect, Sample).
	ID          string `json:"id" parquet:"id,optional,zstd"`
	PromptID    string `json:"prompt_id" parquet:"prompt_id,optional,zstd"`
	CandidateID string `json:"candidate_id" parquet:"candidate_id,optional,zstd"`
	Aspect      string `json:"aspect" parquet:"aspect,optional,dict,zstd"`
	// Sample counts the valid samples of this (candidate, aspect) from 0.
	Sample int32 `json:"sample" parquet:"sample,optional"`
	// Image1 is the digest of the raw prompt's picture, Image2 of the candidate's.
	Image1 string `json:"image1" parquet:"image1,optional,zstd"`
	Image2 string `json:"image2" parquet:"image2,optional,zstd"`
	// Score1 and Score2 are on the template's scale (0 to 5 for pictures), at most three decimals.
	Score1 float64 `json:"score1" parquet:"score1,optional"`
	Score2 float64 `json:"score2" parquet:"score2,optional"`
	// Decimal says that a score was not a whole number.
	Decimal bool `json:"decimal" parquet:"decimal,optional"`
	// Answer is the judge's text as it came.
	Answer   string `json:"answer" parquet:"answer,optional,zstd"`
	Template string `json:"template" parquet:"template,optional,dict,zstd"`
	Judge    string `json:"judge" parquet:"judge,optional,dict,zstd"`
	// Attempt is 0 for the first request, 1 and 2 for the ones after an answer that did not parse.
	Attempt int32 `json:"attempt" parquet:"attempt,optional"`
}

// A Reward is what the judgments of one candidate add up to: each aspect the mean of its samples'
// Score2, Total their sum (facts: candidate score). An aspect that the recipe leaves out is nil.
type Reward struct {
	CandidateID string   `json:"candidate_id" parquet:"candidate_id,optional,zstd"`
	PromptID    string   `json:"prompt_id" parquet:"prompt_id,optional,zstd"`
	Aesthetic   *float64 `json:"aesthetic" parquet:"aesthetic,optional"`
	Pick        *float64 `json:"pick" parquet:"pick,optional"`
	Alignment   *float64 `json:"alignment" parquet:"alignment,optional"`
	Total       float64  `json:"total" parquet:"total,optional"`
	// Samples is how many judgments the reward rests on, over all aspects.
	Samples int32 `json:"samples" parquet:"samples,optional"`
}

// A Slate is a prompt on its way through a preference pipeline: rewrite adds the candidates, imagegen
// the pictures, judge the judgments. It is the one element per prompt that the stages hand on.
type Slate struct {
	Prompt Prompt
	// Raw is the picture of the raw prompt: Image 1 of every judgment.
	Raw        ImageRef
	Candidates []Candidate
	Judgments  []Judgment
}

// Roles of a message.
const (
	RoleSystem    = "system"
	RoleUser      = "user"
	RoleAssistant = "assistant"
)

// A Message is one turn of a chat: role is system, user or assistant.
type Message struct {
	Role    string `json:"role" parquet:"role,optional,zstd"`
	Content string `json:"content" parquet:"content,optional,zstd"`
}

// Kinds of preference pair.
const (
	KindRewrite  = "rewrite"
	KindJudgment = "judgment"
)

// A PreferencePair is one row for a DPO trainer: the exact messages the policy saw, the answer to
// prefer and the answer to avoid, in the conversational form that TRL takes. It has no images column:
// TRL takes any such column for a vision set.
type PreferencePair struct {
	// ID is PreferenceID(Kind, PromptID, Chosen, Rejected).
	ID       string    `json:"id" parquet:"id,optional,zstd"`
	Kind     string    `json:"kind" parquet:"kind,optional,dict,zstd"`
	PromptID string    `json:"prompt_id" parquet:"prompt_id,optional,zstd"`
	Prompt   []Message `json:"prompt" parquet:"prompt,optional,list" parquet-element:",optional"`
	Chosen   []Message `json:"chosen" parquet:"chosen,optional,list" parquet-element:",optional"`
	Rejected []Message `json:"rejected" parquet:"rejected,optional,list" parquet-element:",optional"`
	// ChosenID and RejectedID are the candidates' IDs.
	ChosenID   string `json:"chosen_id" parquet:"chosen_id,optional,zstd"`
	RejectedID string `json:"rejected_id" parquet:"rejected_id,optional,zstd"`
	// ChosenScore and RejectedScore are reward totals, Margin their difference, always > 0.
	ChosenScore   float64 `json:"chosen_score" parquet:"chosen_score,optional"`
	RejectedScore float64 `json:"rejected_score" parquet:"rejected_score,optional"`
	Margin        float64 `json:"margin" parquet:"margin,optional"`
	// Policy and Judge are the identities (weights digests) of the models that made the pair.
	Policy string `json:"policy" parquet:"policy,optional,dict,zstd"`
	Judge  string `json:"judge" parquet:"judge,optional,dict,zstd"`
}

// An Image is a picture embedded in a row, as Hugging Face's Image feature stores it.
type Image struct {
	Bytes []byte `json:"bytes" parquet:"bytes,optional,uncompressed"`
	Path  string `json:"path" parquet:"path,optional,zstd"`
}

// Tasks of a supervised example.
const (
	TaskRewrite    = "rewrite"
	TaskEvaluation = "evaluation"
	TaskJudgment   = "judgment"
)

// A ChatExample is one supervised row: messages ending with the assistant's turn, text only.
type ChatExample struct {
	// ID is ExampleID(Task, Messages).
	ID string `json:"id" parquet:"id,optional,zstd"`
	// Task is rewrite, evaluation or judgment.
	Task     string    `json:"task" parquet:"task,optional,dict,zstd"`
	Messages []Message `json:"messages" parquet:"messages,optional,list" parquet-element:",optional"`
	Source   string    `json:"source" parquet:"source,optional,dict,zstd"`
	SourceID string    `json:"source_id" parquet:"source_id,optional,zstd"`
}

// A Rejected row is a dead letter: what a stage gave up on, why, and enough to run it again.
type Rejected struct {
	Stage string `json:"stage" parquet:"stage,optional,dict,zstd"`
	// Key is the id of the row at that stage ("file:line" where it never got one).
	Key string `json:"key" parquet:"key,optional,zstd"`
	// Reason is one of the stage's typed reasons, snake_case.
	Reason   string `json:"reason" parquet:"reason,optional,dict,zstd"`
	Attempts int32  `json:"attempts" parquet:"attempts,optional"`
	// Detail is for people: the error, the start of the offending text.
	Detail string `json:"detail" parquet:"detail,optional,zstd"`
	// Payload is the JSON of the row as the stage got it.
	Payload string `json:"payload" parquet:"payload,optional,zstd"`
}

// Outcomes of a Count.
const (
	In       = "in"
	Out      = "out"
	Filtered = "filtered"
	Dead     = "dead"
	// Used is not a row's fate but what a stage spent: calls, cache_hits, prompt_tokens, completion_tokens.
	Used = "used"
)

// A Count is one line of the ledger: at this stage, N units had this outcome for this reason.
// Reason is "" for In and Out.
type Count struct {
	Stage   string `json:"stage"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	N       int64  `json:"n"`
}

// A Shard is one finished Parquet file of a run, not yet visible to any reader of the data set.
type Shard struct {
	// Config is the row shape (rewrite, candidates, ...), Split is train, validation or test.
	Config string `json:"config"`
	Split  string `json:"split"`
	// Index orders the shards of one (config, split): rows ascend by rank through them.
	Index int32 `json:"index"`
	// Object is the name in the store.
	Object string `json:"object"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// RowSum is the sum modulo 2^256, as 64 hex digits, of the SHA-256 of each canonical row: it is the
	// same whatever the order of the rows and however they are cut into shards.
	RowSum string `json:"row_sum"`
	// Schema is the hex SHA-256 of the Parquet schema's text.
	Schema string `json:"schema"`
}

// ShardsOf are those of the shards that belong to one configuration, in their order.
func ShardsOf(shards []Shard, config string) []Shard {
	var out []Shard
	for _, s := range shards {
		if s.Config == config {
			out = append(out, s)
		}
	}
	return out
}
