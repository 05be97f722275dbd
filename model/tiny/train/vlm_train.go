package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/model/trainers/embedded"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/schemas"
)

// VLM trains the vision-language model and writes two folders into dir: vlm-init, a model that tells what pictures look like and
// knows the language of prompts, but no task, from prompts of the training part and the pictures that draw makes of them;
// and vlm-sft, the same after the tasks that rows teach. A run that was interrupted goes on where its checkpoint lies in dir: it
// must have had the same configuration.
func VLM(ctx context.Context, dir string, prompts []Prompt, bpe *BPE, rows Rows, c VLMConfig, draw Drawer, told Told) error {
	if err := c.Validate(); err != nil {
		return err
	}
	corpus, err := NewCorpus(prompts, Training)
	if err != nil {
		return err
	}
	m, err := newModel(filepath.Join(dir, initFolder), bpe, c.Seed)
	if err != nil {
		return err
	}
	defer m.params.Close()
	r := &vlmRun{c, m, filepath.Join(dir, "vlm-checkpoint"), told}
	if err := m.params.Load(r.checkpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("go on with the vision-language model: %w; remove the file to begin again", err)
	}
	pool := NewPool(corpus, draw, c.Rows, c.Worn, c.Seed)
	rewritings := newRewritings(prompts, Training, m.words)

	tower, language, tasks, grades := c.cut(c.TowerSteps), c.cut(c.LanguageSteps), c.cut(c.TaskSteps), c.cut(c.GradeSteps)
	err = r.stage(ctx, stage{
		begin: 0, steps: tower, decay: .02,
		rates:   embedded.Schedule{Peak: c.TowerRate, Floor: .03, Warmup: 50, Steps: c.TowerSteps},
		lessons: []*lesson{towerLesson(m, pool)},
	})
	if err != nil {
		return err
	}
	err = r.stage(ctx, stage{
		begin: tower, steps: language, decay: .1,
		rates:   embedded.Schedule{Peak: c.Rate, Floor: .03, Warmup: 60, Steps: c.LanguageSteps},
		lessons: []*lesson{textLesson(m, LanguagePhase, 1, languageShape, false, rewritings.text)},
	})
	if err != nil {
		return err
	}
	if m.params.Steps() == tower+language {
		if err := m.write(filepath.Join(dir, initFolder), bpe); err != nil {
			return err
		}
	}
	folder, err := vlm.Open(ctx, filepath.Join(dir, initFolder), vlm.Options{})
	if err != nil {
		return err
	}
	defer folder.Close()
	encoder, err := folder.Encoder(ctx)
	if err != nil {
		return err
	}
	school, err := newSchool(rows, encoder)
	if err != nil {
		return err
	}
	// A lesson's batch and gradient live as long as a stage: each stage has lessons of its own.
	lessons := func(share float64) []*lesson {
		return []*lesson{
			textLesson(m, RewritePhase, share*c.Rewrites, rewriteShape, false, school.draw(schemas.TaskRewrite)),
			textLesson(m, JudgePhase, share*c.Judgments, judgeShape, true, school.draw(schemas.TaskJudgment)),
			textLesson(m, EvaluatePhase, share*(1-c.Rewrites-c.Judgments), evaluateShape, true, school.draw(schemas.TaskEvaluation)),
		}
	}
	err = r.stage(ctx, stage{
		begin: tower + language, steps: tasks, decay: .1,
		rates:   embedded.Schedule{Peak: c.Rate, Floor: .03, Warmup: 60, Steps: c.TaskSteps},
		lessons: lessons(1),
	})
	if err != nil {
		return err
	}
	err = r.stage(ctx, stage{
		begin: tower + language + tasks, steps: grades, decay: .1,
		rates: embedded.Schedule{Peak: c.GradeRate, Floor: .03, Warmup: 60, Steps: c.GradeSteps},
		// Most of a judgment repeats what is there: in the mean over all its tokens the numbers that must be worked out hardly
		// show, and the model grades everything alike.
		lessons: append(lessons(.5), textLesson(m, GradePhase, .5, judgeShape, true, school.draw(schemas.TaskJudgment, " is", " score"))),
	})
	if err != nil {
		return err
	}
	if err := m.write(filepath.Join(dir, sftFolder), bpe); err != nil {
		return err
	}
	if err := os.Remove(r.checkpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// The folders that VLM writes.
const (
	initFolder = "vlm-init"
	sftFolder  = "vlm-sft"
)

// A chatModel is a vision-language model in training: its weights are those of params at each moment.
type chatModel struct {
	weights vlmWeights
	params  *embedded.Params
	words   *tokenizer.Tokenizer
}

// openTokenizer writes the tokenizer to dir and reads it as engines do.
func openTokenizer(dir string, bpe *BPE) (*tokenizer.Tokenizer, error) {
	data, err := bpe.JSON(ForChat)
	if err != nil {
		return nil, err
	}
	if err := write(dir, "tokenizer.json", data); err != nil {
		return nil, err
	}
	return tokenizer.Open(filepath.Join(dir, "tokenizer.json"))
}

// newModel draws the weights. The tokenizer is written to dir and read as engines do.
func newModel(dir string, bpe *BPE, seed uint64) (*chatModel, error) {
	words, err := openTokenizer(dir, bpe)
	if err != nil {
		return nil, err
	}
	w := newVLM(seed)
	p, err := embedded.NewParams(nil, textLoss(w, 1, vlmBucket, 1, true))
	if err != nil {
		return nil, fmt.Errorf("train the vision-language model: %w", err)
	}
	for name, of := range w {
		w[name] = weight{of.dims, p.Weight(name)}
	}
	return &chatModel{w, p, words}, nil
}

type vlmRun struct {
	config     VLMConfig
	model      *chatModel
	checkpoint string
	told       Told
}

// A stage is steps that lessons share by lot. The run's steps are counted from begin on.
type stage struct {
	begin, steps int64
	rates        embedded.Schedule
	decay        float64
	lessons      []*lesson
}

func (r *vlmRun) stage(ctx context.Context, s stage) error {
	params := r.model.params
	defer func() {
		for _, l := range s.lessons {
			l.close()
		}
	}()
	if params.Steps() >= s.begin+s.steps {
		return nil
	}
	var shares []float64
	for _, l := range s.lessons {
		shares = append(shares, l.share)
		if err := l.open(params, r.config.Threads); err != nil {
			return fmt.Errorf("train the vision-language model: %w", err)
		}
	}
	optimiser := embedded.AdamW{Beta1: .9, Beta2: .95, WeightDecay: s.decay, ClipNorm: 1}
	for params.Steps() < s.begin+s.steps {
		step := params.Steps() - s.begin
		// What a step draws depends on its number alone, so that a run that goes on is the same run.
		rng := rand.New(rand.NewPCG(r.config.Seed, uint64(params.Steps())))
		l := s.lessons[pick(rng, shares)]
		loss, err := l.run(ctx, rng)
		if err != nil {
			return errors.Join(fmt.Errorf("train the vision-language model: %s, step %d: %w", l.phase, step+1, err), r.save())
		}
		if norm := params.Step(optimiser, s.rates.Rate(step)); math.IsNaN(norm) || math.IsInf(norm, 0) {
			return fmt.Errorf("train the vision-language model: %s, step %d: the gradients are not finite; lower the learning rate", l.phase, step+1)
		}
		r.told(l.phase, step+1, loss)
		if (step+1)%saveEvery == 0 || step+1 == s.steps {
			if err := r.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *vlmRun) save() error {
	if r.model.params.Steps() == 0 {
		return nil
	}
	return r.model.params.Save(r.checkpoint)
}
