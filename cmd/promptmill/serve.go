package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	server "github.com/promptmill/promptmill/model/serve"
)

type serveFlags struct {
	server.Config
	models, chat, images, name, addr, size string
}

func (a *app) serveCmd() *cobra.Command {
	f := serveFlags{Config: server.DefaultConfig()}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve models over OpenAI's HTTP API: chat completions with pictures, and images",
		Long: `serve answers OpenAI's HTTP API with the models that the pipelines use, until it is interrupted or
terminated; then it answers what is under way, and exits with 0.

  promptmill serve --models scene --addr 127.0.0.1:8080
  curl -s localhost:8080/v1/images/generations -H 'Content-Type: application/json' -d '{"prompt":"a red fox","seed":1}'

A MODEL is BACKEND, BACKEND:NAME with a name or folder that the backend knows, or all that a recipe can say
of a model: '{backend: openai, model: m, endpoint: "http://host:8000", api_key: env:KEY}'.`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error { return a.serve(ctx, f) }),
	}
	fs := c.Flags()
	fs.StringVar(&f.models, "models", "", "`MODEL` for chat and images (default scene, unless --chat or --images is given)")
	fs.StringVar(&f.chat, "chat", "", "`MODEL` for chat")
	fs.StringVar(&f.images, "images", "", "`MODEL` for images")
	fs.StringVar(&f.name, "name", "", "what requests call the models (default: the last part of the model's name, or its backend)")
	fs.StringVar(&f.addr, "addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 takes a free one")
	fs.StringVar(&f.APIKey, "api-key", "", "key that requests must carry, by `reference`: env:NAME or file:PATH")
	fs.IntVar(&f.Concurrency, "concurrency", f.Concurrency, "requests answered at once")
	fs.IntVar(&f.Queue, "queue", f.Queue, "requests that may wait for that; any more are refused with 429")
	fs.Int64Var(&f.MaxBody, "max-body", f.MaxBody, "largest request, in `bytes`")
	fs.IntVar(&f.MaxPictures, "max-pictures", f.MaxPictures, "most pictures in a request, sent or asked for")
	fs.Int64Var(&f.MaxPixels, "max-pixels", f.MaxPixels, "most pixels of a picture, sent or asked for")
	fs.IntVar(&f.MaxN, "max-n", f.MaxN, "most answers that a chat request may ask for")
	fs.StringVar(&f.size, "size", "512x512", "size of pictures whose request does not say, `WIDTHxHEIGHT`")
	fs.IntVar(&f.Drawing.Steps, "steps", f.Drawing.Steps, "denoising steps, likewise")
	fs.Float64Var(&f.Drawing.Guidance, "guidance", f.Drawing.Guidance, "guidance scale, likewise")
	fs.StringVar(&f.Drawing.Scheduler, "scheduler", "", "scheduler, likewise (default: the model's own)")
	fs.DurationVar(&f.Drain, "drain", f.Drain, "how long requests under way may take after the signal to stop")
	return c
}

func (a *app) serve(ctx context.Context, f serveFlags) error {
	if n, err := fmt.Sscanf(f.size, "%dx%d", &f.Drawing.Width, &f.Drawing.Height); n != 2 || err != nil {
		return usagef("--size %q is not WIDTHxHEIGHT such as 512x512", f.size)
	}
	if err := f.Validate(); err != nil {
		return usageError{err}
	}
	models, err := f.open(ctx)
	if err != nil {
		return asUsage(err)
	}
	srv, err := server.New(f.Config, models, a.log)
	if err != nil {
		return asUsage(err)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", f.addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --addr", err)
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && f.APIKey == "" {
		a.log.Warn("anyone who reaches this address can use the models: set --api-key, or an --addr such as 127.0.0.1:8080", "addr", ln.Addr().String())
	}
	if err := a.announce(ln, models); err != nil {
		return errors.Join(err, ln.Close())
	}
	return srv.Serve(ctx, ln)
}

// announce says where the server is once it can be reached.
func (a *app) announce(ln net.Listener, m server.Models) error {
	url := "http://" + ln.Addr().String()
	if a.flags.json {
		return json.NewEncoder(a.out).Encode(map[string]string{"command": "serve", "url": url, "chat": m.ChatName, "images": m.ImagesName})
	}
	var what []string
	if m.Chat != nil {
		what = append(what, "chat "+m.ChatName)
	}
	if m.Images != nil {
		what = append(what, "images "+m.ImagesName)
	}
	_, err := fmt.Fprintf(a.out, "serving %s on %s/v1\n", strings.Join(what, " and "), url)
	return err
}

// open opens the models of the flags.
func (f serveFlags) open(ctx context.Context) (server.Models, error) {
	if f.models == "" && f.chat == "" && f.images == "" {
		f.models = "scene"
	}
	var m server.Models
	spec, name, err := f.spec("chat", f.chat)
	if err != nil {
		return m, err
	}
	if name != "" {
		if m.Chat, err = model.OpenChat(ctx, spec); err != nil {
			return m, err
		}
		m.ChatName = name
	}
	if spec, name, err = f.spec("images", f.images); err != nil {
		return m, err
	}
	if name != "" {
		if m.Images, err = model.OpenImages(ctx, spec); err != nil {
			return m, err
		}
		m.ImagesName = name
	}
	return m, nil
}

// spec reads the flag for one kind of model, or --models in its place; name is "" if neither is given.
func (f serveFlags) spec(flag, text string) (spec model.Spec, name string, err error) {
	if text == "" {
		flag, text = "models", f.models
	}
	if text == "" {
		return spec, "", nil
	}
	if strings.HasPrefix(text, "{") {
		if err := yaml.UnmarshalWithOptions([]byte(text), &spec, yaml.Strict()); err != nil {
			return spec, "", usagef("--%s: %s", flag, yaml.FormatError(err, false, false))
		}
	} else {
		spec.Backend, spec.Model, _ = strings.Cut(text, ":")
	}
	switch {
	case f.name != "":
		return spec, f.name, nil
	case spec.Model != "":
		return spec, path.Base(spec.Model), nil
	case spec.Backend == "":
		return spec, "", usagef("--%s %s names no backend; there are %s", flag, text, strings.Join(model.Backends(), ", "))
	}
	return spec, spec.Backend, nil
}

// asUsage makes what is wrong with how a model was named a fault of the command line.
func asUsage(err error) error {
	if errors.Is(err, model.ErrConfig) {
		return usageError{err}
	}
	return err
}
