package schemas_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/schemas"
)

func TestValidateFacts(t *testing.T) {
	for _, tt := range []struct {
		row  schemas.Row
		want string
	}{
		{with(fact, func(r *schemas.Fact) { r.First.SHA256 = strings.Repeat("0A", 32) }), "fact f1: field first: sha256"},
		{with(fact, func(r *schemas.Fact) { r.Second.Height = 0 }), "field second.height: 0 is less than 1"},
		{with(fact, func(r *schemas.Fact) { r.SecondID = r.FirstID }), `field second_id: "s/1" is the first picture too`},
		{with(fact, func(r *schemas.Fact) { r.Preference = "left" }), `field preference: "left" is not one of`},
		{with(fact, func(r *schemas.Fact) { r.Preference = schemas.NoPreference }), `field fact_source: "human" with preference ""`},
		{with(fact, func(r *schemas.Fact) { r.FactSource = schemas.FactNone }), `field fact_source: "none" with preference "first"`},
		{with(fact, func(r *schemas.Fact) { r.Preference = schemas.Second }), "field preference: second, but the scores are 5 and 0"},
		{with(fact, func(r *schemas.Fact) { r.SecondScore = nil }), "field second_score: one picture has a score"},
		{with(fact, func(r *schemas.Fact) { r.Aspect = "taste" }), `field aspect: "taste" is not one of`},
		{with(evaluation, func(r *schemas.Evaluation) { r.Order = schemas.AsIs }), `field score1: 0 and 4 in order as_is do not agree with preference "first"`},
		{with(evaluation, func(r *schemas.Evaluation) { r.Score2 = 0 }), "do not agree"},
		{with(evaluation, func(r *schemas.Evaluation) { r.Preference = schemas.Tie }), `field preference: "tie" is not one of`},
		{with(evaluation, func(r *schemas.Evaluation) { r.Images = r.Images[:1] }), "field images: 1 pictures, not two"},
		{with(evaluation, func(r *schemas.Evaluation) { r.Images = []schemas.Image{picture, {}} }), "field images: image 1: no bytes"},
		{with(evaluation, func(r *schemas.Evaluation) { r.Teacher = "" }), "evaluation v1: field teacher: empty"},
		{with(judging, func(r *schemas.JudgmentExample) { r.IrrelevantScore = 5 }), "field standard_score: 5 is not above irrelevant_score, 5"},
		{with(judging, func(r *schemas.JudgmentExample) { r.IrrelevantID = "v1" }), `field irrelevant_id: "v1" is the standard answer too`},
		{with(judging, func(r *schemas.JudgmentExample) { r.Standard = "c" }), `judgment example w1: field standard: "c" is not one of`},
		{with(judging, func(r *schemas.JudgmentExample) { r.Messages = question }), "the last role"},
	} {
		err := tt.row.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%T: got %v, want %q", tt.row, err, tt.want)
		}
	}
	unlabelled := with(fact, func(r *schemas.Fact) {
		r.Preference, r.FactSource, r.FirstScore, r.SecondScore = schemas.NoPreference, schemas.FactNone, nil, nil
	})
	if err := unlabelled.Validate(); err != nil {
		t.Error(err)
	}
}

func TestFactIDs(t *testing.T) {
	ids := []string{
		schemas.FactID(schemas.Pick, "p", "a", "b"), schemas.FactID(schemas.Pick, "p", "b", "a"),
		schemas.FactID(schemas.Aesthetic, "p", "a", "b"), schemas.FactID(schemas.Pick, "", "a", "b"),
		schemas.GroupID("", "a", "b"), schemas.GroupID("p", "a", "b"),
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(ids)))); n != len(ids) {
		t.Errorf("%d ids of %d differ: %q", n, len(ids), ids)
	}
	if schemas.GroupID("", "a", "b") != schemas.GroupID("", "b", "a") || schemas.GroupID("p", "a", "b") != schemas.GroupID("p", "c", "d") {
		t.Error("facts that share a prompt or both pictures do not share a group")
	}
	sum := sha256.Sum256(picture.Bytes)
	if a, b := schemas.VisionID(schemas.TaskJudgment, good, hex.EncodeToString(sum[:])), schemas.ExampleID(schemas.TaskJudgment, good, picture); a != b {
		t.Errorf("VisionID %s is not ExampleID %s", a, b)
	}
}
