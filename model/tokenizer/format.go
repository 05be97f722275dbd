package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	maxFile  = 256 << 20 // bytes of one file; the largest published ones have 40 MB
	maxID    = 1<<24 - 1
	maxAdded = 1 << 10 // bytes of one added token: the search for them looks that far ahead
)

// tokenizerFile is tokenizer.json.
type tokenizerFile struct {
	Version       string          `json:"version"`
	Truncation    *truncationFile `json:"truncation"`
	Padding       *paddingFile    `json:"padding"`
	AddedTokens   []addedFile     `json:"added_tokens"`
	Normalizer    *node           `json:"normalizer"`
	PreTokenizer  *node           `json:"pre_tokenizer"`
	PostProcessor *node           `json:"post_processor"`
	Decoder       *node           `json:"decoder"`
	Model         *modelFile      `json:"model"`
}

type truncationFile struct {
	Direction string `json:"direction"`
	MaxLength int    `json:"max_length"`
}

type paddingFile struct {
	Direction string `json:"direction"`
	PadID     int32  `json:"pad_id"`
}

type addedFile struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Lstrip     bool   `json:"lstrip"`
	Rstrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type modelFile struct {
	Type                    string           `json:"type"`
	Dropout                 float64          `json:"dropout"`
	UnkToken                string           `json:"unk_token"`
	ContinuingSubwordPrefix string           `json:"continuing_subword_prefix"`
	EndOfWordSuffix         string           `json:"end_of_word_suffix"`
	FuseUnk                 bool             `json:"fuse_unk"`
	ByteFallback            bool             `json:"byte_fallback"`
	IgnoreMerges            bool             `json:"ignore_merges"`
	Vocab                   map[string]int32 `json:"vocab"`
	Merges                  []mergeFile      `json:"merges"`
}

// mergeFile is a pair: ["a", "b"], or "a b" in older files.
type mergeFile [2]string

func (m *mergeFile) UnmarshalJSON(b []byte) error {
	var pair []string
	var line string
	if b[0] != '"' {
		if json.Unmarshal(b, &pair) != nil {
			pair = nil // the message below says it better
		}
	} else if json.Unmarshal(b, &line) == nil {
		pair = strings.Split(line, " ")
	}
	if len(pair) != 2 {
		return fmt.Errorf("model.merges: %.80s is not a pair of tokens", b)
	}
	*m = mergeFile(pair)
	return nil
}

// node is any normalizer, pre-tokenizer, post-processor or decoder; Type says which fields count.
type node struct {
	Type string `json:"type"`

	Normalizers   []node `json:"normalizers"`
	Pretokenizers []node `json:"pretokenizers"`
	Processors    []node `json:"processors"`
	Decoders      []node `json:"decoders"`

	Pattern  patternFile `json:"pattern"`
	Content  string      `json:"content"`
	Behavior string      `json:"behavior"`
	Invert   bool        `json:"invert"`
	Prepend  string      `json:"prepend"`
	Suffix   string      `json:"suffix"`

	CleanText          bool  `json:"clean_text"`
	HandleChineseChars bool  `json:"handle_chinese_chars"`
	Lowercase          bool  `json:"lowercase"`
	StripAccents       *bool `json:"strip_accents"`

	StripLeft  bool `json:"strip_left"`
	StripRight bool `json:"strip_right"`
	Start      int  `json:"start"`
	Stop       int  `json:"stop"`

	AddPrefixSpace   *bool  `json:"add_prefix_space"`
	UseRegex         *bool  `json:"use_regex"`
	Replacement      string `json:"replacement"`
	PrependScheme    string `json:"prepend_scheme"`
	Split            *bool  `json:"split"`
	IndividualDigits bool   `json:"individual_digits"`

	Sep           tokenAndID               `json:"sep"`
	Cls           tokenAndID               `json:"cls"`
	Single        []templateFile           `json:"single"`
	SpecialTokens map[string]templateToken `json:"special_tokens"`
}

type patternFile struct{ String, Regex *string }

type templateFile struct {
	Sequence *struct {
		ID string `json:"id"`
	}
	SpecialToken *struct {
		ID string `json:"id"`
	}
}

type templateToken struct {
	IDs []int32 `json:"ids"`
}

// tokenAndID is ["</s>", 2]; set tells whether there was one.
type tokenAndID struct {
	id  int32
	set bool
}

func (t *tokenAndID) UnmarshalJSON(b []byte) error {
	var name string
	if err := json.Unmarshal(b, &[]any{&name, &t.id}); err != nil {
		return fmt.Errorf(`post_processor: %.80s is not ["token", id]`, b)
	}
	t.set = true
	return nil
}

// readJSON reads a file into v; what is wrong with it is said with its name and the field.
func readJSON(path string, v any) error {
	b, err := readFile(path)
	if err != nil {
		return err
	}
	err = json.Unmarshal(b, v)
	var bad *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &bad):
		line := 1 + bytes.Count(b[:min(int(bad.Offset), len(b))], []byte("\n"))
		return fmt.Errorf("tokenizer: %s: line %d, byte %d: %w", path, line, bad.Offset, err)
	case errors.As(err, &typ):
		return fmt.Errorf("tokenizer: %s: %s: a JSON %s where a %s belongs", path, typ.Field, typ.Value, typ.Type)
	case err != nil:
		return fmt.Errorf("tokenizer: %s: %w", path, err)
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("tokenizer: %s: more than %d MiB", path, maxFile>>20)
	}
	return b, nil
}
