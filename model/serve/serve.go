// Package serve answers OpenAI's HTTP API (chat completions with pictures, images, models) with any
// model.Chat and model.Images, so that what runs in this process can be used by every client of that
// format, and the HTTP path can be tested against something that answers for real.
//
// # Design
//
// A request takes a seat, or is refused with 429 at once; it waits for a slot before its body is read, so
// that those who wait cost no memory. Everything a request holds is bounded: bytes, pictures, pixels,
// choices. Fields that would change the answer and are not known are refused, never ignored. Answer i of a
// request is drawn with seed+i, as in package model, so a job over HTTP gives the rows of a job in process.
//
// # Extensions
//
// Chat completions follow OpenAI's reference. Images take, beside prompt, model, n, size and
// response_format (b64_json only), the fields that other servers agree on: seed, negative_prompt,
// num_inference_steps and guidance_scale, and scheduler, a name as in model.ImageRequest. Each picture of
// the answer says its seed, and "nsfw_content_detected": true if a safety checker replaced it. With a key,
// /v1 asks for it; /health and /metrics do not. Streams are whole answers, sent as events.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
)

// Config says what a Server takes. The zero value is not valid; start from DefaultConfig.
type Config struct {
	// APIKey refers to the key that requests must carry: env:NAME or file:PATH; "" asks for none.
	APIKey string `json:"api_key" yaml:"api_key"`
	// Concurrency bounds the requests being answered, Queue those that wait for that; any more are
	// refused with 429.
	Concurrency int `json:"concurrency" yaml:"concurrency"`
	Queue       int `json:"queue" yaml:"queue"`
	// MaxBody bounds a request, in bytes.
	MaxBody int64 `json:"max_body" yaml:"max_body"`
	// MaxPictures bounds the pictures of a request, sent or asked for, MaxPixels each of them.
	MaxPictures int   `json:"max_pictures" yaml:"max_pictures"`
	MaxPixels   int64 `json:"max_pixels" yaml:"max_pixels"`
	// MaxN bounds the answers that a chat request asks for.
	MaxN int `json:"max_n" yaml:"max_n"`
	// Drain is how long requests may still take when the server is told to stop.
	Drain time.Duration `json:"drain" yaml:"drain"`
	// Drawing is what a request for pictures gets that does not say.
	Drawing Drawing `json:"drawing" yaml:"drawing"`
}

// Drawing says how pictures are drawn; see model.ImageRequest.
type Drawing struct {
	Width     int     `json:"width" yaml:"width"`
	Height    int     `json:"height" yaml:"height"`
	Steps     int     `json:"steps" yaml:"steps"`
	Guidance  float64 `json:"guidance" yaml:"guidance"`
	Scheduler string  `json:"scheduler" yaml:"scheduler"`
}

// DefaultConfig takes as many requests as this project's own client sends at once, and draws as the
// paper does (section 4.1: 20 steps, guidance 7.5).
func DefaultConfig() Config {
	return Config{
		Concurrency: guard.DefaultConcurrency, Queue: 4 * guard.DefaultConcurrency,
		MaxBody: 16 << 20, MaxPictures: 16, MaxPixels: model.DefaultMaxPixels, MaxN: 128,
		Drain:   30 * time.Second,
		Drawing: Drawing{Width: 512, Height: 512, Steps: 20, Guidance: 7.5},
	}
}

// Validate joins all faults; each names its field.
func (c Config) Validate() error {
	var errs []error
	least := func(field string, v, low int64) {
		if v < low {
			errs = append(errs, fmt.Errorf("serve.%s: %d is below %d", field, v, low))
		}
	}
	least("concurrency", int64(c.Concurrency), 1)
	least("queue", int64(c.Queue), 0)
	least("max_body", c.MaxBody, 1024)
	least("max_pictures", int64(c.MaxPictures), 1)
	least("max_pixels", c.MaxPixels, 1)
	least("max_n", int64(c.MaxN), 1)
	least("drain", int64(c.Drain), 0)
	least("drawing.width", int64(c.Drawing.Width), 1)
	least("drawing.height", int64(c.Drawing.Height), 1)
	least("drawing.steps", int64(c.Drawing.Steps), 0)
	if g := c.Drawing.Guidance; !(g >= 0 && g <= maxGuidance) {
		errs = append(errs, fmt.Errorf("serve.drawing.guidance: %v is not in 0..%d", g, maxGuidance))
	}
	if len(errs) == 0 && int64(c.Drawing.Width) > c.MaxPixels/int64(c.Drawing.Height) {
		errs = append(errs, fmt.Errorf("serve.drawing: %d x %d are more than max_pixels, %d; ask for less or raise it",
			c.Drawing.Width, c.Drawing.Height, c.MaxPixels))
	}
	return errors.Join(errs...)
}

// Models are what a Server answers with, and the names that requests call them by; the two names may be
// one. A nil model is not served.
type Models struct {
	Chat       model.Chat
	ChatName   string
	Images     model.Images
	ImagesName string
}

// A Server is the API as an http.Handler. It is safe for concurrent use.
type Server struct {
	cfg     Config
	models  Models
	key     guard.Secret
	log     *slog.Logger
	mux     *http.ServeMux
	metrics *metrics
	door    *door
	sound   sound
	started time.Time
}

// New makes a Server. Its errors say which field of cfg is wrong, or wrap model.ErrConfig.
func New(cfg Config, models Models, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if models.Chat == nil && models.Images == nil {
		return nil, fmt.Errorf("%w: no model to serve", model.ErrConfig)
	}
	if models.Chat != nil && models.ChatName == "" || models.Images != nil && models.ImagesName == "" {
		return nil, fmt.Errorf("%w: a model to serve has no name", model.ErrConfig)
	}
	if models.Chat == nil {
		models.ChatName = ""
	}
	if models.Images == nil {
		models.ImagesName = ""
	}
	key, err := guard.LoadSecret(cfg.APIKey)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, models: models, key: key, log: log, mux: http.NewServeMux(),
		door: newDoor(cfg.Concurrency, cfg.Queue), started: time.Now(),
	}
	s.metrics = newMetrics(s.door)
	s.mux.Handle("/v1/chat/completions", s.endpoint("chat", http.MethodPost, s.limited(s.chat)))
	s.mux.Handle("/v1/images/generations", s.endpoint("images", http.MethodPost, s.limited(s.images)))
	s.mux.Handle("/v1/models", s.endpoint("models", http.MethodGet, s.list))
	s.mux.Handle("/v1/models/{name...}", s.endpoint("models", http.MethodGet, s.describe))
	s.mux.Handle("/health", http.HandlerFunc(health))
	s.mux.Handle("/metrics", s.metrics.handler())
	s.mux.Handle("/", s.endpoint("other", "", func(_ http.ResponseWriter, r *http.Request) (reply, error) {
		return nil, &fault{status: http.StatusNotFound, Message: fmt.Sprintf("no such path: %s %s; there are /v1/chat/completions, /v1/images/generations, /v1/models, /health and /metrics", r.Method, r.URL.Path), Type: invalid}
	}))
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// That of the connection's last answer still stands.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	s.mux.ServeHTTP(w, r)
}

// Serve answers on ln until ctx ends; then it takes no more connections, answers what is under way and
// returns nil, or an error if that takes longer than the Config's Drain. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.log.Info("stopping: requests under way are answered", "in_flight", s.door.inside())
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		return errors.Join(fmt.Errorf("stopped with requests unanswered after %v: %w", s.cfg.Drain, err), srv.Close())
	}
	return nil
}

func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n")) // whoever asked may be gone
}
