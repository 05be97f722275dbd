package schemas

// The vision rows are types of their own, not the text rows with an empty column: a trainer takes any
// set with an images column for a vision set (one configuration per row shape).

// A VisionPreferencePair is a PreferencePair whose prompt refers to pictures.
type VisionPreferencePair struct {
	// ID is JudgmentPairID(ChosenID, RejectedID, Chosen, Rejected).
	ID       string    `json:"id" parquet:"id,optional,zstd"`
	Kind     string    `json:"kind" parquet:"kind,optional,dict,zstd"`
	PromptID string    `json:"prompt_id" parquet:"prompt_id,optional,zstd"`
	Prompt   []Message `json:"prompt" parquet:"prompt,optional,list" parquet-element:",optional"`
	Chosen   []Message `json:"chosen" parquet:"chosen,optional,list" parquet-element:",optional"`
	Rejected []Message `json:"rejected" parquet:"rejected,optional,list" parquet-element:",optional"`
	// Images are in the order in which the prompt's messages refer to them.
	Images []Image `json:"images" parquet:"images,optional,list" parquet-element:",optional"`
	// ChosenID and RejectedID are the IDs of the judgments (or candidates) that were compared.
	ChosenID   string `json:"chosen_id" parquet:"chosen_id,optional,zstd"`
	RejectedID string `json:"rejected_id" parquet:"rejected_id,optional,zstd"`
	// ChosenScore and RejectedScore are what was compared, Margin their difference, always > 0.
	ChosenScore   float64 `json:"chosen_score" parquet:"chosen_score,optional"`
	RejectedScore float64 `json:"rejected_score" parquet:"rejected_score,optional"`
	Margin        float64 `json:"margin" parquet:"margin,optional"`
	// Policy and Judge are the identities (weights digests) of the models that made the pair.
	Policy string `json:"policy" parquet:"policy,optional,dict,zstd"`
	Judge  string `json:"judge" parquet:"judge,optional,dict,zstd"`
}

// A VisionChatExample is a ChatExample whose messages refer to pictures.
type VisionChatExample struct {
	// ID is ExampleID(Task, Messages, Images...).
	ID string `json:"id" parquet:"id,optional,zstd"`
	// Task is evaluation or judgment.
	Task     string    `json:"task" parquet:"task,optional,dict,zstd"`
	Messages []Message `json:"messages" parquet:"messages,optional,list" parquet-element:",optional"`
	// Images are in the order in which the messages refer to them.
	Images   []Image `json:"images" parquet:"images,optional,list" parquet-element:",optional"`
	Source   string  `json:"source" parquet:"source,optional,dict,zstd"`
	SourceID string  `json:"source_id" parquet:"source_id,optional,zstd"`
}
