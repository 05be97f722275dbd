package selfreward

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/training"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A policy is one of the loop's, by its number: 0 is the one before the first iteration.
type policy struct {
	// spec opens it, start is what a trainer calls it, weights is its identity.
	spec           model.Spec
	start, weights string
	// trained says that the loop made it.
	trained bool
}

// trainedAs is spec with a checkpoint's weights for its own.
func trainedAs(spec model.Spec, step *Step) model.Spec {
	spec.Model = step.Location
	if spec.Revision != "" { // a server's weights are known by what is declared
		spec.Revision = step.Weights
	}
	return spec
}

// policy finds policy t, which was made before, and asks for its identity.
func (l *Loop) policy(ctx context.Context, t int) (policy, error) {
	p := policy{spec: l.Recipe.Models.Policy}
	name := fmt.Sprintf("dpo-%d", t)
	if t == 0 {
		name = "sft"
	}
	if t > 0 || l.Recipe.SelfReward.Start == recipe.StartSFT {
		step := l.step(name)
		if step == nil || step.Location == "" {
			return p, fmt.Errorf("policy %d is not there: step %s has made nothing yet", t, name)
		}
		p.spec, p.trained = trainedAs(p.spec, step), true
	}
	chat, err := model.OpenChat(ctx, p.spec)
	if err != nil {
		return p, fmt.Errorf("policy %d, %s: %w", t, p.spec.Model, err)
	}
	p.weights, p.start = chat.Info().Weights, training.StartOf(chat, p.spec)
	if !p.trained && l.Recipe.Training.Start != "" {
		p.start = l.Recipe.Training.Start
	}
	return p, nil
}

// release closes the chat models in this process but for policy t, as each takes memory for its weights and caches. Whoever
// needs another again, such as a fixed judge, opens it again.
func (l *Loop) release(t int) {
	location := ""
	if step := l.step(fmt.Sprintf("dpo-%d", t)); step != nil {
		location = step.Location
	}
	model.ReleaseChats(func(s model.Spec) bool { return location != "" && s.Model == location })
}

// judge is the spec of the judge of iteration t. Where policy and judge are not of one backend, the judge is
// an outsider that no training changes.
func (l *Loop) judge(ctx context.Context, t int) (model.Spec, error) {
	spec := l.Recipe.Models.Judge
	if spec.Backend != l.Recipe.Models.Policy.Backend {
		if l.Recipe.SelfReward.Reward == recipe.RewardSelf {
			return spec, fmt.Errorf("selfreward.reward: self wants policy and judge to be one model, but models.judge is of backend %s and models.policy of %s; set it to fixed, or one of the backends",
				spec.Backend, l.Recipe.Models.Policy.Backend)
		}
		return spec, nil
	}
	at := t - 1
	if l.Recipe.SelfReward.Reward == recipe.RewardFixed {
		at = 0
	}
	p, err := l.policy(ctx, at)
	return l.judgeOf(p), err
}

// judgeOf is the spec of a policy as the judge. An outsider stays what it is.
func (l *Loop) judgeOf(p policy) model.Spec {
	spec := l.Recipe.Models.Judge
	if p.trained && spec.Backend == l.Recipe.Models.Policy.Backend {
		spec.Model, spec.Revision = p.spec.Model, p.spec.Revision
	}
	return spec
}

// at is the recipe with the models of iteration t: policy t-1 rewrites, judge judges.
func (l *Loop) at(p policy, judge model.Spec) (*recipe.Recipe, error) {
	r := *l.Recipe
	r.Models.Policy, r.Models.Judge = p.spec, judge
	return &r, r.Bind(l.Cache)
}

// digest is the hex SHA-256 of the canonical JSON of its parts.
func digest(parts ...any) string {
	sum := sha256.Sum256(recipe.Canonical(parts))
	return hex.EncodeToString(sum[:])
}

// header is that of a run of one of the loop's own sets, named by what decides its rows.
func (l *Loop) header(set string, decides ...any) snapshot.Header {
	set = Dir(l.Name) + "/" + set
	h := l.Header(set, l.LogicalDate+"-"+digest(append(decides, set, l.digest)...)[:12])
	h.LogicalDate, h.RecipeDigest = l.LogicalDate, l.digest
	metadata := map[string]string{"loop": l.Name}
	for k, v := range h.Metadata {
		metadata[k] = v
	}
	h.Metadata = metadata
	return h
}

// common is the header of a run that belongs to no loop: it is named by what decides its rows and by nothing else, so
// that every loop in the store finds it.
func (l *Loop) common(set string, decides ...any) snapshot.Header {
	d := digest(append(decides, set)...)
	h := l.Header(set, "c-"+d[:16])
	h.LogicalDate, h.RecipeDigest = l.LogicalDate, d
	h.Metadata = maps.Clone(h.Metadata)
	if h.Metadata == nil {
		h.Metadata = map[string]string{}
	}
	return h
}
