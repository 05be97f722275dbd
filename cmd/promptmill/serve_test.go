package main

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	server "github.com/promptmill/promptmill/model/serve"
	"github.com/promptmill/promptmill/schemas"
)

// The same job over HTTP and in process gives the same rows, but for the names that the models go by:
// seeds, pictures and templates all travel.
func TestServedRows(t *testing.T) {
	for _, c := range []struct {
		backend, words string
		prompts        int
	}{
		{"scene", "templates: {set: paper}\nrewrite: {continues: \"\"}\n", 24},
		{"tiny", "", 6},
	} {
		t.Run(c.backend, func(t *testing.T) { servedRows(t, c.backend, c.words, c.prompts) })
	}
}

// servedRows compares the demo on a backend in process and over HTTP; words are what its recipe adds to the demo's.
func servedRows(t *testing.T, backend, words string, prompts int) {
	spec := model.Spec{Backend: backend}
	chat, err := model.OpenChat(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	images, err := model.OpenImages(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := server.New(server.DefaultConfig(), server.Models{Chat: chat, ChatName: backend, Images: images, ImagesName: backend}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	const job = "preference --logical-date 2026-01-31 --json --quiet --set select.prompts=%d --set gates.max_dead_fraction=1 --recipe %s --out %s"
	remote := fmt.Sprintf("{backend: openai, model: %s, revision: r1, endpoint: %q}", backend, srv.URL)
	overHTTP := writeFile(t, t.TempDir(), "http.yaml", fmt.Sprintf("extends: demo\nmodels: {policy: %[1]s, images: %[1]s, judge: %[1]s}\n%[2]s",
		remote, words))

	near, far := t.TempDir(), t.TempDir()
	if s := succeed(t, strings.Fields(fmt.Sprintf(job, prompts, "demo", near)+" --models "+backend)...); s.Rows["rewrite"] == 0 {
		t.Fatalf("no pairs to compare: %+v", s)
	}
	succeed(t, strings.Fields(fmt.Sprintf(job, prompts, overHTTP, far))...)

	here, there := readSet(t, near), readSet(t, far)
	compare(t, here.candidates, there.candidates, func(c *schemas.Candidate) string { return c.ID }, func(c *schemas.Candidate) *string { return &c.Policy })
	compare(t, here.judgments, there.judgments, func(j *schemas.Judgment) string { return j.ID }, func(j *schemas.Judgment) *string { return &j.Judge })
	compare(t, here.rewards, there.rewards, func(r *schemas.Reward) string { return r.CandidateID })
	pairs := func(d dataSet) []schemas.PreferencePair { return slices.Collect(maps.Values(d.pairs)) }
	compare(t, pairs(here), pairs(there), func(p *schemas.PreferencePair) string { return p.ID },
		func(p *schemas.PreferencePair) *string { return &p.Policy }, func(p *schemas.PreferencePair) *string { return &p.Judge })
	compare(t, here.rejected, there.rejected, func(r *schemas.Rejected) string { return r.Stage + r.Key + r.Reason })
}

// compare wants equal rows, in any order, but for what the names point to, which must differ.
func compare[T any](t *testing.T, here, there []T, id func(*T) string, names ...func(*T) *string) {
	t.Helper()
	for _, rows := range [][]T{here, there} {
		slices.SortFunc(rows, func(a, b T) int { return strings.Compare(id(&a), id(&b)) })
	}
	for i := range min(len(here), len(there)) {
		for _, name := range names {
			if a, b := name(&here[i]), name(&there[i]); *a == *b || !strings.HasSuffix(*b, "@r1") {
				t.Fatalf("%T %s was made by %q in process, by %q over HTTP", here[i], id(&here[i]), *a, *b)
			} else {
				*b = *a
			}
		}
	}
	if diff := cmp.Diff(here, there); diff != "" || len(here) == 0 && names != nil {
		t.Errorf("%d rows of %T in process, %d over HTTP (-in process +over HTTP):\n%.2000s", len(here), *new(T), len(there), diff)
	}
}
