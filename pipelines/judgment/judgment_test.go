package judgment_test

import (
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/schemas"
)

// The pipeline itself is tested where evaluations are made: pipelines/evaluation.
func TestConfigFaults(t *testing.T) {
	config := func() judgment.Config {
		c := judgment.DefaultConfig()
		c.Judgment.Model, c.Cache, c.Sink.Store = model.Spec{Backend: "scene"}, "cache", "store"
		return c
	}
	if err := config().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		change func(*judgment.Config)
		fault  string
	}{
		{func(c *judgment.Config) { c.Rows = nil }, "judgment.aspects: none"},
		{func(c *judgment.Config) { c.Rows[schemas.Pick] = 0 }, "judgment.rows.pick: 0"},
		{func(c *judgment.Config) { c.Rows["depth"] = 1 }, `judgment.aspects[1]: there is no "depth"`},
		{func(c *judgment.Config) { c.Pool = .5 }, "judgment.pool: 0.5"},
		{func(c *judgment.Config) { c.Round = 0 }, "judgment.round: 0"},
		{func(c *judgment.Config) { c.ShardRows = 0 }, "judgment.shard_rows: 0"},
		{func(c *judgment.Config) { c.Gates.MaxDeadFraction = 2 }, "gates.max_dead_fraction: 2"},
	} {
		bad := config()
		tt.change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains("\n"+err.Error(), "\n"+tt.fault) {
			t.Errorf("error %v, want %s", err, tt.fault)
		}
	}
}
