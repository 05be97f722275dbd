package command

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
)

// A line is a command line: words that may hold placeholders.
type line []string

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// names are the placeholders that there are.
var names = []string{
	"data", "start", "output", "id", "digest", "method", "checkpoint", "epochs", "batch_size", "micro_batch",
	"accumulation", "learning_rate", "warmup_fraction", "adam_beta1", "adam_beta2", "weight_decay", "dpo_beta", "nll_alpha", "seed",
}

// secret matches arguments that carry a key: by the flag's name, or by the form of well-known ones.
var secret = regexp.MustCompile(`(?i)^--?[\w-]*(api[_-]?key|token|password|secret)(=.|$)|\b(hf_|sk-|ghp_|wandb_v1_)[\w-]{8,}`)

func parseLine(text string) (line, error) {
	l := line(strings.Fields(text))
	var errs []error
	for _, word := range l {
		for _, p := range placeholder.FindAllString(word, -1) {
			if !slices.Contains(names, p[1:len(p)-1]) {
				errs = append(errs, fmt.Errorf("no placeholder %s; there are {%s}", p, strings.Join(names, "} {")))
			}
		}
		if secret.MatchString(word) {
			flag, _, _ := strings.Cut(word, "=")
			errs = append(errs, fmt.Errorf("the argument %.12s... looks like a secret, and everybody on the machine sees command lines; set it in the environment (HF_TOKEN, WANDB_API_KEY)", flag))
		}
	}
	return l, errors.Join(errs...)
}

// fill replaces the placeholders of l. A value is never cut, whatever it holds.
func (l line) fill(values map[string]string) line {
	out := make(line, len(l))
	for i, word := range l {
		out[i] = placeholder.ReplaceAllStringFunc(word, func(p string) string { return values[p[1:len(p)-1]] })
	}
	return out
}

// values are what a job puts in place of placeholders. The batch must be a whole number of micro batches.
func (t *trainer) values(job model.TrainJob) (map[string]string, error) {
	p := job.Params
	at := t.micro * t.devices
	if p.BatchSize < 1 || p.Epochs < 1 {
		return nil, fmt.Errorf("%w: job %s: epochs %d and batch_size %d must be at least 1", model.ErrConfig, job.ID, p.Epochs, p.BatchSize)
	}
	if p.BatchSize%at != 0 {
		return nil, fmt.Errorf("%w: job %s: a batch of %d is not a multiple of micro_batch %d on %d devices; change option micro_batch", model.ErrConfig, job.ID, p.BatchSize, t.micro, t.devices)
	}
	whole := strconv.Itoa
	decimal := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	return map[string]string{
		"start": jobfolder.Local(job.Start), "id": job.ID, "digest": job.Digest, "method": job.Method,
		"epochs": whole(p.Epochs), "batch_size": whole(p.BatchSize), "micro_batch": whole(t.micro), "accumulation": whole(p.BatchSize / at),
		"learning_rate": decimal(p.LearningRate), "warmup_fraction": decimal(p.WarmupFraction),
		"adam_beta1": decimal(p.Beta1), "adam_beta2": decimal(p.Beta2), "weight_decay": decimal(p.WeightDecay),
		"dpo_beta": decimal(p.DPOBeta), "nll_alpha": decimal(p.NLLAlpha), "seed": strconv.FormatInt(p.Seed, 10),
	}, nil
}

// A preset is what a known program is started with.
type preset struct {
	sft, dpo, version string
	format            dataset.Format
}

// hyper are arguments of Hugging Face's Trainer, which TRL and LLaMA-Factory share.
const hyper = ` --num_train_epochs {epochs} --per_device_train_batch_size {micro_batch} --gradient_accumulation_steps {accumulation}` +
	` --learning_rate {learning_rate} --lr_scheduler_type cosine --warmup_steps {warmup_fraction}` +
	` --adam_beta1 {adam_beta1} --adam_beta2 {adam_beta2} --weight_decay {weight_decay} --seed {seed}` +
	` --logging_steps 1 --save_strategy epoch --report_to none`

// The presets were run with TRL 1.16 and LLaMA-Factory 0.9.5. The NLL term of DPO is TRL's second
// loss "sft", LLaMA-Factory's pref_ftx. LLaMA-Factory also needs "extra: --template NAME", that of the model.
var presets = map[string]preset{
	"": {format: parquet},
	"trl": {
		format:  parquet,
		version: "trl env",
		sft:     "trl sft --model_name_or_path {start} --dataset_name {data} --output_dir {output}" + hyper,
		dpo: "trl dpo --model_name_or_path {start} --dataset_name {data} --output_dir {output}" +
			" --beta {dpo_beta} --loss_type sigmoid sft --loss_weights 1 {nll_alpha}" + hyper,
	},
	"llamafactory": {
		format:  dataset.LlamaFactory,
		version: "llamafactory-cli version",
		sft: "llamafactory-cli train --stage sft --do_train true --model_name_or_path {start} --dataset_dir {data}" +
			" --dataset train --output_dir {output} --finetuning_type full" + hyper,
		dpo: "llamafactory-cli train --stage dpo --do_train true --model_name_or_path {start} --dataset_dir {data}" +
			" --dataset train --output_dir {output} --finetuning_type full --pref_beta {dpo_beta} --pref_ftx {nll_alpha}" + hyper,
	},
}

func presetNames() []string { return slices.Sorted(maps.Keys(presets))[1:] }
