package vlm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/promptmill/promptmill/model/tokenizer"
)

// settings are what the configuration files say of a model.
type settings struct {
	text      textConfig
	eos       []int32
	newTokens int // generation_config.json's bound of an answer; 0: none
	image     imageTokens
	imageErr  error // why no token stands for pictures
	places    int   // that a picture takes, as the files say; 0: they do not
	padding   padding
	bos       string
	template  *chatTemplate
	pictures  *pictureConfig // nil: none are seen
}

// textConfig is the language model's part of config.json.
type textConfig struct {
	Context int   `json:"max_position_embeddings"`
	Heads   int64 `json:"num_attention_heads"`
	KVHeads int64 `json:"num_key_value_heads"`
	HeadDim int64 `json:"head_dim"`
	Hidden  int64 `json:"hidden_size"`
}

// imageTokens are what stands for a picture among the tokens.
type imageTokens struct {
	token         int32
	name          string
	before, after []int32
}

// padding fills a prompt with visible tokens, so that what follows begins at few different places: a model that
// learned its positions needs that. It is processor_config.json's prompt_padding.
type padding struct {
	token    int32
	multiple int
	left     bool
}

// apply returns ids with what is missing to a multiple.
func (p padding) apply(ids []int32) []int32 {
	if p.multiple == 0 {
		return ids
	}
	missing := (p.multiple - len(ids)%p.multiple) % p.multiple
	fill := slices.Repeat([]int32{p.token}, missing)
	if p.left {
		return append(fill, ids...)
	}
	return append(ids, fill...)
}

type configFile struct {
	textConfig
	Text       *textConfig `json:"text_config"`
	EOS        idList      `json:"eos_token_id"`
	ImageToken *int32      `json:"image_token_id"`
	ImageIndex *int32      `json:"image_token_index"`
	Places     int         `json:"image_seq_length"`
}

type generationFile struct {
	EOS       idList `json:"eos_token_id"`
	NewTokens int    `json:"max_new_tokens"`
}

type processorFile struct {
	Class      string         `json:"processor_class"`
	ImageToken tokenName      `json:"image_token"`
	Padding    *paddingFile   `json:"prompt_padding"`
	Pictures   *pictureConfig `json:"image_processor"`
	Places     int            `json:"image_seq_length"`
	// PlacesIdefics is what Idefics3's and SmolVLM's processors call it.
	PlacesIdefics int `json:"image_seq_len"`
}

type paddingFile struct {
	Token    string `json:"token"`
	Multiple int    `json:"multiple"`
	Side     string `json:"side"`
}

// idList is 2 or [2, 3].
type idList []int32

func (l *idList) UnmarshalJSON(b []byte) error {
	var one int32
	if err := json.Unmarshal(b, &one); err == nil {
		if string(b) != "null" {
			*l = idList{one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]int32)(l))
}

// tokenName is "<s>", or {"content": "<s>", ...}, or null.
type tokenName string

func (n *tokenName) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, (*string)(n)) == nil {
		return nil
	}
	var object struct{ Content string }
	if err := json.Unmarshal(b, &object); err != nil {
		return fmt.Errorf("%.80s is not a token: it must be a string or an object with content", b)
	}
	*n = tokenName(object.Content)
	return nil
}

func readSettings(folder string, tok *tokenizer.Tokenizer) (*settings, error) {
	var config configFile
	var generation generationFile
	var processor processorFile
	var pictures *pictureConfig
	var names tokenizerConfig
	for name, v := range map[string]any{
		"config.json": &config, "generation_config.json": &generation, "processor_config.json": &processor,
		"preprocessor_config.json": &pictures, "tokenizer_config.json": &names,
	} {
		if err := readJSON(folder, name, v); err != nil {
			return nil, err
		}
	}
	s := &settings{text: config.textConfig, newTokens: generation.NewTokens, bos: string(names.BOS)}
	if config.Text != nil {
		s.text = *config.Text
	}
	if most := tok.Limits().MaxLength; most > 0 && (s.text.Context == 0 || most < s.text.Context) {
		s.text.Context = most
	}
	var err error
	if s.eos, err = endTokens(tok, generation.EOS, config.EOS, names.EOS); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFolder, folder, err)
	}
	s.image, s.imageErr = readImageTokens(tok, config, processor, names)
	if s.padding, err = processor.Padding.read(tok); err != nil {
		return nil, fmt.Errorf("%w: %s: prompt_padding: %w", ErrFolder, filepath.Join(folder, "processor_config.json"), err)
	}
	if s.pictures = pictures; pictures == nil {
		s.pictures = processor.Pictures
	}
	s.places = cmp.Or(processor.Places, processor.PlacesIdefics, config.Places)
	if s.pictures != nil {
		s.places = cmp.Or(s.places, s.pictures.Places)
	}
	s.template, err = readTemplate(folder, names, s.image.name)
	return s, err
}

// seesPictures wants what a model needs that is shown pictures.
func (s *settings) seesPictures(folder string) error {
	if s.imageErr != nil {
		return fmt.Errorf("%w: %s: %w", ErrFolder, folder, s.imageErr)
	}
	if s.pictures == nil {
		return fmt.Errorf("%w: %s: no preprocessor_config.json", ErrFolder, folder)
	}
	if err := s.pictures.check(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFolder, filepath.Join(folder, "preprocessor_config.json"), err)
	}
	return nil
}

// endTokens takes the most particular of the files that say what ends an answer.
func endTokens(tok *tokenizer.Tokenizer, generation, config idList, name tokenName) ([]int32, error) {
	ids := []int32(generation)
	if ids == nil {
		ids = config
	}
	if ids == nil && name != "" {
		id, ok := tok.ID(string(name))
		if !ok {
			return nil, fmt.Errorf("tokenizer_config.json: eos_token: %q is not in the vocabulary", name)
		}
		ids = []int32{id}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("nothing ends an answer: set eos_token_id in generation_config.json")
	}
	for _, id := range ids {
		if id < 0 || int(id) >= tok.Vocab() {
			return nil, fmt.Errorf("eos_token_id: no token has the id %d", id)
		}
	}
	return ids, nil
}

func readImageTokens(tok *tokenizer.Tokenizer, config configFile, processor processorFile, names tokenizerConfig) (imageTokens, error) {
	t := imageTokens{token: -1, name: string(processor.ImageToken)}
	if t.name == "" {
		t.name = string(names.ImageToken)
	}
	for _, id := range []*int32{config.ImageToken, config.ImageIndex} {
		if id != nil && t.name == "" {
			t.name = tok.Decode([]int32{*id}, false)
		}
	}
	if t.name == "" {
		t.name = "<image>"
	}
	id, ok := tok.ID(t.name)
	if !ok {
		return t, fmt.Errorf("the image token %q is not in the vocabulary: set image_token in processor_config.json", t.name)
	}
	t.token = id
	switch processor.Class {
	case "Idefics3Processor", "SmolVLMProcessor": // one picture that is not cut into tiles, as their processors write it
		fake, ok := tok.ID("<fake_token_around_image>")
		global, found := tok.ID("<global-img>")
		if !ok || !found {
			return t, fmt.Errorf("processor_class %s needs the tokens <fake_token_around_image> and <global-img>", processor.Class)
		}
		t.before, t.after = []int32{fake, global}, []int32{fake}
	}
	return t, nil
}

func (f *paddingFile) read(tok *tokenizer.Tokenizer) (padding, error) {
	if f == nil {
		return padding{}, nil
	}
	id, ok := tok.ID(f.Token)
	switch {
	case !ok:
		return padding{}, fmt.Errorf("token: %q is not in the vocabulary", f.Token)
	case f.Multiple < 1:
		return padding{}, fmt.Errorf("multiple: %d is not at least 1", f.Multiple)
	case f.Side != "left" && f.Side != "right":
		return padding{}, fmt.Errorf("side: %q is neither left nor right", f.Side)
	}
	return padding{id, f.Multiple, f.Side == "left"}, nil
}
