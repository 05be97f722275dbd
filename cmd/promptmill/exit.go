package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Exit codes that scripts rely on.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2  // the command line or the recipe is wrong
	exitGate        = 3  // a quality gate or a missed target said no
	exitLostRace    = 4  // another run committed first
	exitInterrupted = 75 // go on later with the same command
)

var errInterrupted = errors.New("interrupted: paid answers are kept; the same command goes on")

// A usageError is a fault of the command line or the recipe.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode is the code that a command's error asks for.
func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, snapshot.ErrGate):
		return exitGate
	case errors.Is(err, snapshot.ErrLostRace):
		return exitLostRace
	}
	return exitFailed
}

// explain prints err for people and returns its exit code.
func explain(w io.Writer, err error) int {
	if err != nil {
		fmt.Fprintln(w, "promptmill:", err)
	}
	return exitCode(err)
}
