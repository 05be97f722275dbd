package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
	graph "github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/store"
)

// A finding is what doctor says about one thing that a job needs.
type finding struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail is what was found, or what is wrong and what to do about it.
	Detail string `json:"detail"`
}

var errUnwell = errors.New("doctor found faults")

// patience bounds each of doctor's looks at something that may not answer.
const patience = 20 * time.Second

func (a *app) doctorCmd() *cobra.Command {
	var install bool
	var runner string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the runtime, devices, model endpoints and store; say what to do about each fault",
		Long: `doctor looks at what a job needs: ONNX Runtime, the devices it can use, with --recipe or --models the models
(each is asked one small question), and with --out the store (an object is written, read and deleted).`,
		Args: cobra.NoArgs,
	}
	a.recipeFlags(c)
	c.Flags().StringVar(&a.flags.out, "out", "", "`directory` or URL of a store to look at")
	c.Flags().StringVar(&runner, "runner", "", "look at the recipe's engine for this `runner`")
	c.Flags().BoolVar(&install, "install", false, "fetch ONNX Runtime "+onnx.Version+" with pip or npm if it is not there")
	c.RunE = run(func(ctx context.Context, _ []string) error {
		findings := a.examineRuntime(ctx, install)
		if c.Flags().Changed("recipe") || c.Flags().Changed("models") {
			r, _, err := a.loadRecipe()
			if err != nil {
				return err
			}
			findings = append(findings, examineModels(ctx, r.Models)...)
		}
		if runner != "" {
			more, err := a.examineEngine(ctx, runner)
			if err != nil {
				return err
			}
			findings = append(findings, more...)
		}
		if a.flags.out != "" {
			findings = append(findings, examine("store "+a.flags.out, func() (string, error) { return examineStore(ctx, a.flags.out) }))
		}
		return a.printFindings(findings)
	})
	return c
}

func examine(name string, look func() (string, error)) finding {
	detail, err := look()
	if err != nil {
		return finding{Name: name, Detail: err.Error()}
	}
	return finding{Name: name, OK: true, Detail: detail}
}

func (a *app) examineRuntime(ctx context.Context, install bool) []finding {
	library := examine("onnx runtime", func() (string, error) {
		path, err := onnx.Find()
		if err != nil && install {
			a.say("fetching ONNX Runtime %s", onnx.Version)
			path, err = onnx.Install(ctx)
		}
		if err == nil {
			err = onnx.Start()
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s at %s", onnx.Loaded(), path), nil
	})
	if !library.OK {
		return []finding{library}
	}
	devices := examine("devices", func() (string, error) {
		b := graph.New()
		b.Output("y", b.Op("Identity", []string{b.Input("x", onnxfile.Float, 1)}), onnxfile.Float, 1)
		s, err := onnx.Load(b.Model(), "a model that does nothing", onnx.Options{Provider: "auto"})
		if err != nil {
			return "", err
		}
		defer s.Close()
		return fmt.Sprintf("%d cores, models run on %s", runtime.NumCPU(), s.Device()), nil
	})
	return []finding{library, devices}
}

// examineModels asks each model one small question.
func examineModels(ctx context.Context, m recipe.Models) []finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	chat := func(spec model.Spec) func() (string, error) {
		return func() (string, error) {
			c, err := model.OpenChat(ctx, spec)
			if err != nil {
				return "", err
			}
			_, err = c.Chat(ctx, model.ChatRequest{
				Messages: []model.Message{model.Text("user", "a cat")}, Sampling: model.Sampling{MaxTokens: 4}, N: 1, Template: "doctor",
			})
			return c.Info().Name, err
		}
	}
	findings := []finding{examine("policy", chat(m.Policy)), examine("images", func() (string, error) {
		images, err := model.OpenImages(ctx, m.Images)
		if err != nil {
			return "", err
		}
		return images.Info().Name, nil
	})}
	return append(findings, examine("judge", chat(m.Judge)))
}

// examineStore does what a commit needs: publish once, read back, delete.
func examineStore(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st, err := store.Open(ctx, url)
	if err != nil {
		return "", err
	}
	name := "doctor/" + uuid.NewString()
	if err := st.PutIfAbsent(ctx, name, []byte(name)); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	again := st.PutIfAbsent(ctx, name, []byte("another"))
	data, _, err := st.Read(ctx, name)
	if err := errors.Join(err, st.Delete(ctx, name)); err != nil {
		return "", fmt.Errorf("read back and delete: %w", err)
	}
	if !errors.Is(again, store.ErrExists) || string(data) != name {
		return "", fmt.Errorf("a second write of %s was not refused (%w): two runs could overwrite each other; use another store", name, again)
	}
	return "writable, refuses to overwrite", nil
}

func (a *app) printFindings(findings []finding) error {
	well := true
	for _, f := range findings {
		well = well && f.OK
	}
	if a.flags.json {
		if err := json.NewEncoder(a.out).Encode(map[string]any{"command": "doctor", "ok": well, "findings": findings}); err != nil {
			return err
		}
	} else {
		t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		for _, f := range findings {
			state := "ok"
			if !f.OK {
				state = "FAULT"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", state, f.Name, f.Detail)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if !well {
		return errUnwell
	}
	return nil
}
