// Bench measures promptmill on the work it is for and prints what it measured: ratios within one run,
// with CPU and memory, because machines differ and drift.
//
//	go run ./bench            everything at a tenth of full size
//	go run ./bench -full      9,634 prompts and 327,000 calls, and the paper's 156,487 supervised rows
//	go run ./bench http|sft|mixture|infer|train   one of them
//	go run ./bench engines    what workers share and what an element costs on a local Flink; needs a JDK, Maven, pip
//
// It runs bin/promptmill as its own process, so what it prints is what the operating system counted. Its
// files lie in TMPDIR and are removed at the end. On ext4 new files are dear for some minutes after
// thousands were removed, and the pictures are thousands of files: wait between two runs, or set TMPDIR
// to a folder in memory.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	full := flag.Bool("full", false, "run at full size: 9,634 prompts and 327,000 calls, 156,487 supervised rows")
	bin := flag.String("bin", "bin/promptmill", "the promptmill `binary` to measure")
	python := flag.String("python", "python3", "the `program` to run onnxruntime and PyTorch with, where they are there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Args(), *bin, *python, *full); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, bin, python string, full bool) error {
	which := "all"
	if len(args) > 0 {
		which = args[0]
	}
	switch which {
	case "duckdb": // a child of the sft benchmark, so that DuckDB's memory and CPU are its own process's
		return duckdbChild(ctx, args[1], args[2])
	case "bare": // another, the client to compare with
		return bareChild(ctx, args[1])
	case "serve": // a child of the http benchmark, so that the server's CPU is not the client's
		return serveChild(ctx)
	case "teach": // the server of the mixture benchmark
		return teachChild(ctx)
	case "infer-child":
		return inferChild(ctx, args[1], args[2], args[3])
	case "infer":
		return benchInfer(ctx, python)
	case "train-child": // the train benchmark's, so that CPU and memory are a trainer's alone
		return trainChild(ctx)
	case "train":
		return benchTrain(ctx, python)
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("%w: run make build first", err)
	}
	dir, err := os.MkdirTemp("", "promptmill-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	switch which {
	case "all":
		if err := benchSFT(ctx, bin, dir); err != nil {
			return err
		}
		if err := benchMixture(ctx, bin, dir, full); err != nil {
			return err
		}
		if err := benchHTTP(ctx, bin, dir, full); err != nil {
			return err
		}
		if err := benchInfer(ctx, python); err != nil {
			return err
		}
		return benchTrain(ctx, python)
	case "sft":
		return benchSFT(ctx, bin, dir)
	case "mixture":
		return benchMixture(ctx, bin, dir, full)
	case "http":
		return benchHTTP(ctx, bin, dir, full)
	case "engines":
		return benchEngines(ctx, bin, dir)
	}
	return fmt.Errorf("no benchmark %q: there are http, sft, mixture, infer, train and engines", which)
}

// A cost is what one finished process took.
type cost struct {
	wall, cpu time.Duration
	rssMB     float64
	// calls is how many the model server answered, where there was one.
	calls int
}

// perCall is the CPU time of a call in microseconds.
func (c cost) perCall() float64 { return float64(c.cpu.Microseconds()) / float64(c.calls) }

// measured runs a command to its end and returns its standard output and what it cost.
func measured(cmd *exec.Cmd) ([]byte, cost, error) {
	cmd.Stderr = os.Stderr
	start := time.Now()
	out, err := cmd.Output()
	c := cost{wall: time.Since(start)}
	if s := cmd.ProcessState; s != nil {
		c.cpu = s.UserTime() + s.SystemTime()
		if ru, ok := s.SysUsage().(*syscall.Rusage); ok {
			c.rssMB = float64(ru.Maxrss) / 1024
		}
	}
	if err != nil {
		return out, c, fmt.Errorf("%s: %w", cmd.Args[0], err)
	}
	return out, c, nil
}
