package responselog_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
)

// childEnv makes the test binary a process that asks and reports until it is killed: "dir round".
const childEnv = "RESPONSELOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child asks from eight goroutines, each its own prompts, and after each answer writes a line
// "prompt TAB answer" to standard output. It ends when standard input does.
func child(args string) error {
	dir, round, _ := strings.Cut(args, " ")
	log, err := responselog.Open(context.Background(), dir)
	if err != nil {
		return err
	}
	chat := responselog.Chat(newSpeaker(), log)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil && i < 2000; i++ {
				prompt := fmt.Sprintf("round %s goroutine %d prompt %d", round, g, i)
				resp, err := chat.Chat(ctx, request(prompt, 1, 2))
				if err != nil {
					return
				}
				fmt.Printf("%s\t%s\n", prompt, resp.Answers[1].Text)
			}
		})
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	cancel()
	wg.Wait()
	if err != nil {
		return err
	}
	return log.Close()
}

// A childProcess runs child.
type childProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string
}

func startChild(t *testing.T, dir string, round int) *childProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir+" "+strconv.Itoa(round))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &childProcess{cmd: cmd, stdin: stdin, lines: make(chan string, 1<<16)}
	go func() {
		defer close(p.lines)
		for r := bufio.NewReader(stdout); ; {
			line, err := r.ReadString('\n')
			if err != nil { // the line that was cut is not a report
				return
			}
			p.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	return p
}

// checkReported asks log for what children reported.
func checkReported(t *testing.T, log *responselog.Log, reported map[string]string) {
	t.Helper()
	inner := newSpeaker()
	inner.before = func(_ context.Context, req model.ChatRequest) error {
		return fmt.Errorf("lost: %s", req.Messages[0].Parts[0].Text)
	}
	chat := responselog.Chat(inner, log)
	for prompt, want := range reported {
		resp, err := chat.Chat(t.Context(), request(prompt, 1, 2))
		if err != nil {
			t.Error(err)
		} else if got := resp.Answers[1].Text; got != want {
			t.Errorf("%s: the log has %q, reported was %q", prompt, got, want)
		}
	}
	if s := log.Stats(); s.Damaged != 0 || s.Stored != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestKilledProcessesLoseNothing(t *testing.T) {
	dir := t.TempDir()
	reported := map[string]string{}
	take := func(line string) {
		prompt, answer, ok := strings.Cut(line, "\t")
		if !ok {
			t.Errorf("report %q", line)
		}
		reported[prompt] = answer
	}
	for round := range 10 {
		p := startChild(t, dir, round)
		// Killed at a moment of its work: after its first report, within 30 ms.
		first, ok := <-p.lines
		if !ok {
			t.Fatalf("round %d reported nothing: %v", round, p.cmd.Wait())
		}
		take(first)
		time.Sleep(rand.N(30 * time.Millisecond))
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for line := range p.lines {
			take(line)
		}
		_ = p.cmd.Wait() // killed
	}
	t.Logf("%d answers were reported before ten kills", len(reported))
	st := local(t, dir)
	log := open(t, st)
	checkReported(t, log, reported)
	if left := names(t, st, "responses/wal-"); len(left) != 0 {
		t.Errorf("journals of dead processes stay behind: %q", left)
	}
}

func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	st := local(t, dir)
	p := startChild(t, dir, 0)
	early := map[string]string{}
	for range 20 {
		prompt, answer, _ := strings.Cut(<-p.lines, "\t")
		early[prompt] = answer
	}
	mine := open(t, st) // while the child writes
	checkReported(t, mine, early)
	want := remember(t, mine, "mine", 5)
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	late := map[string]string{}
	for line := range p.lines {
		prompt, answer, _ := strings.Cut(line, "\t")
		late[prompt] = answer
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for prompt, answer := range early { // its journal is gone now
		if resp, err := responselog.Chat(newSpeaker(), mine).Chat(t.Context(), request(prompt, 1, 2)); err != nil || resp.Answers[1].Text != answer {
			t.Errorf("%s: %+v, %v", prompt, resp, err)
		}
	}
	shut(t, mine)
	log := open(t, st)
	checkReported(t, log, early)
	checkReported(t, log, late)
	expect(t, log, "mine", want)
}
