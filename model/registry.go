package model

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Spec names a backend and what it needs to start on any worker. It is plain data, visible in the
// job's description, so it holds references to secrets and never a secret.
type Spec struct {
	// Backend is the registered name: scene, openai, txt2img.
	Backend string `json:"backend" yaml:"backend"`
	// Model is the backend's name for the model ("" for its only one).
	Model string `json:"model,omitempty" yaml:"model,omitempty"`
	// Endpoint is the base URL of a server, without credentials.
	Endpoint string `json:"endpoint,omitempty" yaml:"endpoint,omitempty"`
	// APIKey is a reference: env:NAME or file:PATH.
	APIKey string `json:"api_key,omitempty" yaml:"api_key,omitempty"`
	// Revision declares which weights the endpoint serves; with Model it is their identity.
	Revision string `json:"revision,omitempty" yaml:"revision,omitempty"`
	// Concurrency bounds the requests in flight from this process; 0 is the backend's default.
	Concurrency int `json:"concurrency,omitempty" yaml:"concurrency,omitempty"`
	// AttemptTimeout bounds one try, TotalTimeout a request with its retries; 0 is the default.
	AttemptTimeout time.Duration `json:"attempt_timeout,omitempty" yaml:"attempt_timeout,omitempty"`
	TotalTimeout   time.Duration `json:"total_timeout,omitempty" yaml:"total_timeout,omitempty"`
	// Options are the backend's own settings; an unknown one is an error of Open.
	Options map[string]string `json:"options,omitempty" yaml:"options,omitempty"`
}

// A Backend makes models from Specs. A nil function means that the backend has no such model.
type Backend struct {
	Chat    func(context.Context, Spec) (Chat, error)
	Images  func(context.Context, Spec) (Images, error)
	Scorer  func(context.Context, Spec) (Scorer, error)
	Trainer func(context.Context, Spec) (Trainer, error)
}

var backends = map[string]Backend{}

// Register makes a backend known under name. It is called from init functions and panics if the
// name is taken.
func Register(name string, b Backend) {
	if _, dup := backends[name]; dup {
		panic("model: backend registered twice: " + name)
	}
	backends[name] = b
}

// Backends returns the names that are linked in, sorted.
func Backends() []string { return slices.Sorted(maps.Keys(backends)) }

var (
	chats    opened[Chat]
	images   opened[Images]
	scorers  opened[Scorer]
	trainers opened[Trainer]
)

// OpenChat opens the chat model that spec names: once a process, whoever asks.
func OpenChat(ctx context.Context, spec Spec) (Chat, error) {
	return chats.open(ctx, spec, "chat", func(b Backend) func(context.Context, Spec) (Chat, error) { return b.Chat })
}

// OpenImages opens the text-to-image model that spec names: once a process, whoever asks.
func OpenImages(ctx context.Context, spec Spec) (Images, error) {
	return images.open(ctx, spec, "image", func(b Backend) func(context.Context, Spec) (Images, error) { return b.Images })
}

// OpenScorer opens the scorer that spec names: once a process, whoever asks.
func OpenScorer(ctx context.Context, spec Spec) (Scorer, error) {
	return scorers.open(ctx, spec, "score", func(b Backend) func(context.Context, Spec) (Scorer, error) { return b.Scorer })
}

// OpenTrainer opens the trainer that spec names: once a process, whoever asks.
func OpenTrainer(ctx context.Context, spec Spec) (Trainer, error) {
	return trainers.open(ctx, spec, "training", func(b Backend) func(context.Context, Spec) (Trainer, error) { return b.Trainer })
}

// ReleaseChats closes the open chat models that can be closed (by a method Close) and whose Spec is not kept: to open one
// again is to load it again. Nothing may use them then.
func ReleaseChats(keep func(Spec) bool) { chats.release(keep) }

// opened holds one model per Spec: several bundles and stages share its weights and its limits.
type opened[M any] struct {
	mu     sync.Mutex
	models map[string]openedModel[M]
}

type openedModel[M any] struct {
	spec  Spec
	model M
}

func (o *opened[M]) open(ctx context.Context, spec Spec, kind string, pick func(Backend) func(context.Context, Spec) (M, error)) (M, error) {
	var none M
	b, ok := backends[spec.Backend]
	if !ok {
		return none, fmt.Errorf("%w: no backend %q; there are %s", ErrConfig, spec.Backend, strings.Join(Backends(), ", "))
	}
	start := pick(b)
	if start == nil {
		return none, fmt.Errorf("%w: backend %q has no %s model", ErrConfig, spec.Backend, kind)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	key := fmt.Sprintf("%+v", spec) // fmt prints maps in key order
	if m, ok := o.models[key]; ok {
		return m.model, nil
	}
	m, err := start(ctx, spec)
	if err != nil {
		return none, fmt.Errorf("open %s model %s: %w", kind, spec.Backend, err)
	}
	if o.models == nil {
		o.models = map[string]openedModel[M]{}
	}
	o.models[key] = openedModel[M]{spec, m}
	return m, nil
}

func (o *opened[M]) release(keep func(Spec) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, m := range o.models {
		if c, ok := any(m.model).(interface{ Close() }); ok && !keep(m.spec) {
			c.Close()
			delete(o.models, key)
		}
	}
}
