// Package tiny is the backend of the models that come with promptmill: a text-to-image model and a vision-language model
// of the world of package scene, small enough to be part of the binary. Package train made them, from nothing.
//
// The backend is registered as "tiny". Its picture model is t2i; its chat models are sft, which rewrites prompts and judges
// pictures, and init, which has seen language and pictures but no task. README.md beside each one's files says how it was
// trained, what it can do and what it cannot. A path, which has a slash, names a folder of the same layout: what became of
// one of them by training.
//
// # Design
//
// The files have the layouts of published models and are opened by the packages that open those, by path: Folder writes
// them to the user's cache once. Nothing here knows what is in them.
package tiny

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion"
	"github.com/promptmill/promptmill/model/vlm"
)

// The models' names.
const (
	T2I  = "t2i"
	SFT  = "sft"
	Init = "init"
)

func init() { model.Register("tiny", model.Backend{Chat: openChat, Images: openImages}) }

// openImages opens t2i. Options are those of the diffusion backend.
func openImages(_ context.Context, spec model.Spec) (model.Images, error) {
	if spec.Model != "" && spec.Model != T2I {
		return nil, fmt.Errorf("%w: tiny has no picture model %q; there is %s", model.ErrConfig, spec.Model, T2I)
	}
	o, err := diffusion.ParseOptions(spec.Options)
	if err != nil {
		return nil, err
	}
	folder, err := Folder(T2I)
	if err != nil {
		return nil, err
	}
	m, err := diffusion.Open(folder, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrConfig, err)
	}
	return m, nil
}

// openChat opens sft, init, or the folder that the spec's model is the path of. Options are those of the vlm backend.
func openChat(ctx context.Context, spec model.Spec) (model.Chat, error) {
	o, err := vlm.ParseOptions(spec.Options)
	if err != nil {
		return nil, err
	}
	folder := spec.Model
	switch name := spec.Model; {
	case name == "":
		folder, err = Folder(SFT)
	case name == SFT, name == Init:
		folder, err = Folder(name)
	case filepath.Base(name) == name:
		return nil, fmt.Errorf("%w: tiny has no chat model %q; there are %s and %s, and folders by their path, as ./%[2]s", model.ErrConfig, name, SFT, Init)
	}
	if err != nil {
		return nil, err
	}
	m, err := vlm.Open(ctx, folder, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrConfig, err)
	}
	return m, nil
}
