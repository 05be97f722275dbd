package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/report"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A summary is what a job did: the JSON line that scripts read, and the table that people read.
type summary struct {
	Command   string           `json:"command"`
	RunID     string           `json:"run_id"`
	Snapshot  string           `json:"snapshot"`
	Digest    string           `json:"digest"`
	Rows      map[string]int64 `json:"rows"`
	Calls     calls            `json:"calls"`
	CacheHits int64            `json:"cache_hits"`
	Dead      map[string]int64 `json:"dead"`
	Filtered  map[string]int64 `json:"filtered"`
	WallS     float64          `json:"wall_s"`
	CPUS      float64          `json:"cpu_s"`
	MaxRSSMB  float64          `json:"max_rss_mb"`
}

// calls counts requests that models answered in this process; answers from the log are cache hits.
type calls struct {
	Chat  int64 `json:"chat"`
	Image int64 `json:"image"`
	Score int64 `json:"score"`
}

// summarise reads rows, dead and filtered from the committed manifests (the set and what it was made
// from) and calls from this process: reporting a snapshot that is there costs none.
//
// runs are the run and, before it, those that it read.
func summarise(command, version string, runs []snapshot.Manifest, spent []schemas.Count, start time.Time) summary {
	m := runs[len(runs)-1]
	s := summary{
		Command: command, RunID: m.RunID, Snapshot: version, Digest: m.Digest, Rows: m.Rows,
		Dead: map[string]int64{}, Filtered: map[string]int64{},
		WallS: round(time.Since(start).Seconds()),
	}
	for _, from := range runs {
		for _, c := range from.Counts {
			switch c.Outcome {
			case schemas.Dead:
				s.Dead[c.Stage+"/"+c.Reason] += c.N
			case schemas.Filtered:
				s.Filtered[c.Stage+"/"+c.Reason] += c.N
			}
		}
	}
	for _, c := range spent {
		if c.Outcome != schemas.Used {
			continue
		}
		switch c.Reason {
		case "calls":
			switch {
			case strings.HasPrefix(c.Stage, "draw"):
				s.Calls.Image += c.N
			case c.Stage == metrics.StageMeasure:
				s.Calls.Score += c.N
			default:
				s.Calls.Chat += c.N
			}
		case "cache_hits":
			s.CacheHits += c.N
		}
	}
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err == nil {
		s.CPUS = round(float64(ru.Utime.Sec+ru.Stime.Sec) + float64(ru.Utime.Usec+ru.Stime.Usec)/1e6)
		s.MaxRSSMB = round(float64(ru.Maxrss) / 1024)
	}
	return s
}

func round(x float64) float64 { return float64(int64(x*100+.5)) / 100 }

// writeJSON prints s on one line.
func (s summary) writeJSON(w io.Writer) error { return json.NewEncoder(w).Encode(s) }

// writeTable prints s for people, with the ledger of the run and the margins of its pairs.
func (s summary) writeTable(w io.Writer, runs []snapshot.Manifest, next []string) error {
	var counts []schemas.Count
	for _, m := range runs {
		counts = append(counts, slices.DeleteFunc(slices.Clone(m.Counts), func(c schemas.Count) bool {
			return strings.HasPrefix(c.Stage, "write_") && c.Outcome != schemas.Filtered
		})...)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "\n%s %s\n\n", s.Command, s.RunID)
	fmt.Fprintf(t, "  stage\tin\tout\tfiltered\tdead\n")
	for _, stage := range stages(counts) {
		fmt.Fprintf(t, "  %s\t%d\t%d\t%d\t%d\n", stage,
			ledger.Total(counts, stage, schemas.In), ledger.Total(counts, stage, schemas.Out),
			ledger.Total(counts, stage, schemas.Filtered), ledger.Total(counts, stage, schemas.Dead))
	}
	fmt.Fprintf(t, "\n  rows\t%s\n", counted(s.Rows))
	fmt.Fprintf(t, "  filtered\t%s\n", counted(s.Filtered))
	fmt.Fprintf(t, "  dead\t%s\n", counted(s.Dead))
	fmt.Fprintf(t, "  model calls\t%d chat, %d image; %d answers from the response log\n", s.Calls.Chat, s.Calls.Image, s.CacheHits)
	fmt.Fprintf(t, "  took\t%.1f s, %.1f s of CPU, %.0f MB at most\n", s.WallS, s.CPUS, s.MaxRSSMB)
	fmt.Fprintf(t, "  snapshot\t%s\n", s.Snapshot)
	fmt.Fprintf(t, "  digest\t%s\n", s.Digest)
	if err := t.Flush(); err != nil {
		return err
	}
	writeMargins(w, counts)
	for i, line := range next {
		if i == 0 {
			fmt.Fprintln(w, "\n  next")
		}
		fmt.Fprintln(w, "    "+line)
	}
	return nil
}

// stages are the stages with rows, in the order of the flow where that is known.
func stages(counts []schemas.Count) []string {
	var out []string
	for _, c := range counts {
		if c.Outcome == schemas.In && !slices.Contains(out, c.Stage) {
			out = append(out, c.Stage)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return report.Place(a) - report.Place(b) })
	return out
}

func counted(m map[string]int64) string {
	if len(m) == 0 {
		return "none"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
