// Promptmill builds preference data for self-rewarding training of prompt rewriters.
//
// The one binary is the launcher, with a subcommand per job, and the Beam worker that runners start.
package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/promptmill/promptmill/model/diffusion"              // backend diffusion
	_ "github.com/promptmill/promptmill/model/openai"                 // backend openai
	_ "github.com/promptmill/promptmill/model/scene"                  // backend scene
	_ "github.com/promptmill/promptmill/model/scorers/clip"           // backend clip
	_ "github.com/promptmill/promptmill/model/trainers/command"       // backend command
	_ "github.com/promptmill/promptmill/model/trainers/embedded/tune" // backend embedded
	_ "github.com/promptmill/promptmill/model/trainers/rest"          // backend rest
	_ "github.com/promptmill/promptmill/model/txt2img"                // backend txt2img
	_ "github.com/promptmill/promptmill/model/vlm"                    // backend vlm
	"github.com/promptmill/promptmill/runners"
)

func main() {
	keepHeap()
	if runners.IsWorker(os.Args[1:]) {
		os.Exit(work(os.Args[1:]))
	}
	os.Exit(launch(os.Args[1:]))
}

// launch runs one command line and returns the process's exit code.
func launch(args []string) int {
	if err := flag.CommandLine.Parse(nil); err != nil { // Beam asks that flags be parsed; ours are cobra's
		return exitUsage
	}
	runners.Init()
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel(errInterrupted)
		<-signals // asked twice: at once
		os.Exit(exitInterrupted)
	}()
	root := newRoot(os.Stdout, os.Stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		err = errInterrupted
	}
	return explain(os.Stderr, err)
}
