package source_test

import (
	"context"
	"testing"

	"github.com/promptmill/promptmill/transforms/source"
)

// The committed stand-ins have the data sets' whole layouts, with the columns that are not read.
func TestStandIns(t *testing.T) {
	bp := one("../../testdata/prompts/beautifulprompt.json")
	bp.Inputs[0].Format = source.BeautifulPrompt
	if err := source.InspectPairs(context.Background(), bp); err != nil {
		t.Error(err)
	}
	if got := bothRunners(t, bp, true); len(got.pairs) != 200 || len(got.rejected) != 0 {
		t.Errorf("BeautifulPrompt: %d pairs, %d dead", len(got.pairs), len(got.rejected))
	}
	db := one("../../testdata/prompts/diffusiondb.parquet")
	db.Inputs[0].Format = source.DiffusionDB
	db.Inputs[0].Filter.MaxPromptNSFW = 1
	if got := bothRunners(t, db, false); len(got.prompts) != 196 { // every fiftieth is blurred
		t.Errorf("DiffusionDB: %d prompts", len(got.prompts))
	}
}
