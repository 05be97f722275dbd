package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns a terminal and the end from which what it shows is read.
func openTerminal(t *testing.T) (terminal, shown *os.File) {
	t.Helper()
	shown, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shown.Close() })
	fd := int(shown.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 50})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return terminal, shown
}

// On a terminal a training is one line that is drawn over and over, and gone in the end.
func TestTrainingOnTerminal(t *testing.T) {
	dir := t.TempDir()
	recipe := loopRecipe(t)
	succeed(t, "sft", "--recipe", recipe, "--set", "sft.parts=[rewrite]", "--out", dir, "--json", "--quiet")
	terminal, shown := openTerminal(t)
	cmd := command(t, "train", "sft", "--recipe", recipe, "--set", "training.trainer.options={pause: 400ms}", "--out", dir)
	cmd.Stderr = terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = terminal.Close()
	text, _ := io.ReadAll(shown) // it ends with an error when nobody has the terminal open any more
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	const restart = "\r\x1b[K"
	lines := strings.Split(string(text), restart)
	step := regexp.MustCompile(`^train sft: step [2-4] of 4, loss 0\.[0-9]+, [0-9]+s left$`)
	if !slices.ContainsFunc(lines, step.MatchString) {
		t.Errorf("no line %s in %q", step, lines)
	}
	if strings.Contains(string(text), "\n") || lines[len(lines)-1] != "" {
		t.Errorf("lines are left behind: %q", text)
	}
	for _, line := range lines {
		if len(line) >= 50 {
			t.Errorf("too wide for the terminal: %q", line)
		}
	}
}
