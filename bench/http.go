package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

const (
	// slots and latency are the server's.
	slots   = 64
	latency = 50 * time.Millisecond
	// concurrency is the recipe's: a few more than the server has slots, so that a slot that falls free
	// finds its next request waiting and does not idle for a round trip.
	concurrency = slots + slots/8
	// allPrompts x (1 rewrite + 9 pictures + 24 judgments) is 327,556 calls.
	allPrompts = 9_634
)

// benchHTTP runs the main job against a model server over HTTP at two sizes, ten times apart.
func benchHTTP(ctx context.Context, bin, dir string, full bool) error {
	large := allPrompts / 10
	if full {
		large = allPrompts
	}
	fmt.Printf("http: preference over HTTP, %d slots, %v a call, 8 candidates, 3 aspects x 3 samples\n", slots, latency)
	fmt.Printf("  %8s %8s %8s %8s %12s %14s %9s\n", "prompts", "calls", "wall s", "CPU s", "CPU us/call", "server in use", "peak MB")
	small, err := oneHTTP(ctx, bin, dir, large/10)
	if err != nil {
		return err
	}
	big, err := oneHTTP(ctx, bin, dir, large)
	if err != nil {
		return err
	}
	bare, err := bareHTTP(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  memory at %d prompts / at %d: %.2f\n", large, large/10, big.rssMB/small.rssMB)
	fmt.Printf("  CPU a call / that of bare net/http, which neither checks, keeps, parses nor writes anything (%.0f us): %.2f\n\n",
		bare, big.perCall()/bare)
	return nil
}

// bareCalls is how many requests the bare client makes.
const bareCalls = 20_000

// bareHTTP is what a call costs a client that posts a question with two pictures and drops the answer.
func bareHTTP(ctx context.Context) (usPerCall float64, err error) {
	url, stop, err := startServer(ctx, "serve")
	if err != nil {
		return 0, err
	}
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	_, c, err := measured(exec.CommandContext(ctx, self, "bare", url))
	return float64(c.cpu.Microseconds()) / bareCalls, err
}

// bareChild makes the bare client's calls.
func bareChild(ctx context.Context, url string) error {
	const picture = `{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}}`
	part := fmt.Sprintf(picture, base64.StdEncoding.EncodeToString(make([]byte, 1500)))
	body := fmt.Sprintf(`{"model":"fake","n":3,"messages":[{"role":"user","content":[%s,%s,{"type":"text","text":%q}]}]}`,
		part, part, strings.Repeat("rubric ", 300))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
	group, ctx := errgroup.WithContext(ctx)
	for range concurrency {
		group.Go(func() error {
			for range bareCalls / concurrency {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
				if err != nil {
					return err
				}
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, resp.Body)
				if err := errors.Join(err, resp.Body.Close()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func oneHTTP(ctx context.Context, bin, dir string, n int) (cost, error) {
	url, stop, err := startServer(ctx, "serve")
	if err != nil {
		return cost{}, err
	}
	defer stop()
	in := filepath.Join(dir, fmt.Sprintf("prompts-%d.jsonl", n))
	if err := writePrompts(in, n); err != nil {
		return cost{}, err
	}
	recipe := filepath.Join(dir, fmt.Sprintf("http-%d.yaml", n))
	if err := writeRecipe(recipe, in, url, concurrency, `name: bench-http
rewrite: {continues: ""}
`); err != nil {
		return cost{}, err
	}
	_, c, err := measured(exec.CommandContext(ctx, bin, "preference", "--recipe", recipe,
		"--out", filepath.Join(dir, fmt.Sprintf("http-%d", n)), "--json"))
	if err != nil {
		return cost{}, err
	}
	stats, err := serverStats(ctx, url)
	if err != nil {
		return cost{}, err
	}
	if stats.OK == 0 {
		return cost{}, errors.New("the server was never called")
	}
	c.calls = stats.OK
	span := stats.Last.Sub(stats.First)
	fmt.Printf("  %8d %8d %8.1f %8.1f %12.0f %14.3f %9.0f\n", n, stats.OK, c.wall.Seconds(), c.cpu.Seconds(),
		c.perCall(),
		float64(stats.OK)*latency.Seconds()/(span.Seconds()*slots), c.rssMB)
	return c, nil
}

// writeRecipe writes a recipe of the main job on the prompts in a file, all of whose models are the server at url; more is
// what else it sets.
func writeRecipe(path, prompts, url string, concurrency int, more string) error {
	model := fmt.Sprintf("{backend: openai, model: fake, endpoint: %s, revision: \"1\", concurrency: %d}", url, concurrency)
	text := fmt.Sprintf(`extends: demo
prompts:
  inputs:
    - {name: prompts, path: %s}
  limits: {max_words: 200}
heldout: {benchmarks: []}
dedup: {mode: exact}
select: {prompts: 0}
templates: {set: paper}
models: {policy: %s, images: %s, judge: %s}
`, prompts, model, model, model)
	return os.WriteFile(path, []byte(text+more), 0o644)
}

// startServer starts this program again as one of its model servers and waits for its address; stop ends it.
func startServer(ctx context.Context, child string) (url string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, child)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill() // it serves nobody else
		_ = cmd.Wait()
	}
	if url, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
		return "", nil, fmt.Errorf("model server: %w", err)
	}
	return strings.TrimSpace(url), stop, nil
}

// serveChild is the model server: it serves until it is killed.
func serveChild(ctx context.Context) error {
	s, err := fakeserver.Start(fakeserver.Config{Slots: slots, Latency: latency})
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println(s.URL)
	<-ctx.Done()
	return nil
}

func serverStats(ctx context.Context, url string) (fakeserver.Stats, error) {
	var st fakeserver.Stats
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/stats", nil)
	if err != nil {
		return st, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// writePrompts writes n different prompts: the real ones, and from the second round on each with a
// number, so that 9,634 are there whatever the filter of the repository left.
func writePrompts(path string, n int) error {
	base, err := prompts()
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for i := range n {
		text := base[i%len(base)]
		if round := i / len(base); round > 0 {
			text = fmt.Sprintf("%s, number %d", text, round)
		}
		if err := enc.Encode(map[string]string{"prompt": text}); err != nil {
			return err
		}
	}
	return w.Flush()
}
