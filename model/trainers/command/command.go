// Package command trains with a program: TRL, LLaMA-Factory, or any script, through torchrun or
// accelerate if need be. It registers the backend "command".
//
// # Design
//
// All that is known of a job lies in the folder of its output, so that a handle (that folder) outlives
// every process:
//
//	job.json        the job; put if absent, so of two that start it one wins
//	data/           what the program reads: the shards, or their rows in its own format
//	model/          what the program writes; checkpoint-N in it are resumed from
//	log             the program's output, a heading for each attempt
//	lock            locked (flock) by the running program itself
//	attempts        the process group of each attempt, a line each
//	cancel          there if the job is to end
//	exit            the program's exit code
//	end.json        how the job ended; put if absent, never changed
//
// A shell of ten fixed lines runs the program in a process group of its own: it writes attempts and
// exit, so both are right whether or not the process that started it is still there. The lock is an
// open file that the group inherits; the system releases it with the last of them, so "is it running"
// needs no process ids, which are used again, and no clock. A job whose lock is free without an exit code
// was killed with its machine or by force: whoever asks for its status starts it again at its newest checkpoint.
// Hence Status is what drives a job; there is no process of promptmill's beside it.
//
// Signals go to the whole group, since trainers leave children behind (trl's launcher does).
//
// # The program
//
// Model is a preset, trl or llamafactory, or empty; then the options sft and dpo are the command lines.
// They are cut at white space and not read by a shell; after that {name} is replaced:
//
//	{data} {start} {output} {id} {digest} {method} {checkpoint}
//	{epochs} {batch_size} {micro_batch} {accumulation} {learning_rate} {warmup_fraction} {adam_beta1}
//	{adam_beta2} {weight_decay} {dpo_beta} {nll_alpha} {seed}
//
// as in, for VILA's own script with format llava,
//
//	torchrun --nproc_per_node 8 llava/train/train_mem.py --model_name_or_path {start} --data_path
//	{data}/train/00000.json --image_folder {data} --output_dir {output} --num_train_epochs {epochs} ...
//
// A command line is visible to everybody on the machine: secrets belong in the environment, which the
// program inherits. Arguments that look like one are refused.
//
// # Options
//
//	sft, dpo      command lines
//	extra         arguments that are added to a preset's, such as "--bf16 true --max_length 2048"
//	resume        arguments that are added where there is a checkpoint; "--resume_from_checkpoint {checkpoint}"
//	bin           a folder that is looked through first for the program (the bin of a virtual environment)
//	version       a command line that prints the program's version; a preset has its own
//	format        of the data: parquet (the shards as they are), llamafactory, llava or openai
//	complete      the file whose presence makes a checkpoint-N whole; trainer_state.json, which Hugging
//	              Face's Trainer writes last
//	micro_batch   rows on a device at once, 1; devices: how many there are, 1. {accumulation} makes up
//	              the batch from them.
//	restarts      how often a job that was killed is started again, 3
//	grace         how long a program may take to end when asked to, 30s
package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/dataset"
)

func init() {
	model.Register("command", model.Backend{Trainer: open})
}

// parquet is the format of data that need no conversion.
const parquet dataset.Format = "parquet"

type trainer struct {
	// lines are the command lines by method.
	lines           map[string]line
	resume          line
	bin             string
	format          dataset.Format
	complete        string
	micro, devices  int
	restarts        int
	grace           time.Duration
	info            model.Info
	versionQuestion line
}

var options = []string{"sft", "dpo", "extra", "resume", "bin", "version", "format", "complete", "micro_batch", "devices", "restarts", "grace"}

func open(ctx context.Context, spec model.Spec) (model.Trainer, error) {
	t, err := configure(spec)
	if err != nil {
		return nil, err
	}
	version, err := t.checkEnvironment(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Append(nil, t.lines[model.MethodSFT], t.lines[model.MethodDPO], t.format, t.micro, version))
	t.info = model.Info{Name: strings.TrimSpace("command " + spec.Model + " " + version), Weights: "command@" + hex.EncodeToString(sum[:8])}
	return t, nil
}

// configure reads a Spec and touches nothing.
func configure(spec model.Spec) (*trainer, error) {
	var errs []error
	fault := func(name, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: option %s: %s", model.ErrConfig, name, fmt.Sprintf(format, args...)))
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Options)) {
		if !slices.Contains(options, name) {
			fault(name, "there is none; there are %s", strings.Join(options, ", "))
		}
	}
	p, known := presets[spec.Model]
	if !known {
		errs = append(errs, fmt.Errorf("%w: model: %q is not one of %s; leave it out and give the options sft and dpo",
			model.ErrConfig, spec.Model, strings.Join(presetNames(), ", ")))
	}
	text := func(name, preset string) string {
		if v, given := spec.Options[name]; given {
			return v
		}
		return preset
	}
	parse := func(name, text string) line {
		l, err := parseLine(text)
		if err != nil {
			fault(name, "%v", err)
		}
		return l
	}
	number := func(name string, preset int) int {
		n, err := strconv.Atoi(text(name, strconv.Itoa(preset)))
		if err != nil || n < 0 || n == 0 && name != "restarts" {
			fault(name, "%q is not a whole number above 0", spec.Options[name])
		}
		return n
	}
	t := &trainer{
		lines: map[string]line{}, bin: text("bin", ""), complete: text("complete", "trainer_state.json"),
		format: dataset.Format(text("format", string(p.format))), resume: parse("resume", text("resume", "--resume_from_checkpoint {checkpoint}")),
		micro: number("micro_batch", 1), devices: number("devices", 1), restarts: number("restarts", 3),
		versionQuestion: parse("version", text("version", p.version)),
	}
	for method, preset := range map[string]string{model.MethodSFT: p.sft, model.MethodDPO: p.dpo} {
		l := parse(method, text(method, preset))
		if len(l) > 0 {
			t.lines[method] = append(l, parse("extra", text("extra", ""))...)
		}
	}
	if len(t.lines) == 0 && known {
		fault("dpo", "neither sft nor dpo is given; write a command line, or set model to %s", strings.Join(presetNames(), " or "))
	}
	if formats := []dataset.Format{parquet, dataset.LlamaFactory, dataset.LLaVA, dataset.OpenAI}; !slices.Contains(formats, t.format) {
		fault("format", "%q is not one of %q", t.format, formats)
	}
	var err error
	if t.grace, err = time.ParseDuration(text("grace", "30s")); err != nil || t.grace < 0 {
		fault("grace", "%q is not a time such as 30s", spec.Options["grace"])
	}
	if t.bin != "" {
		if info, err := os.Stat(t.bin); err != nil || !info.IsDir() {
			fault("bin", "%s is not a folder on this machine", t.bin)
		}
	}
	return t, errors.Join(errs...)
}

// Info implements model.Trainer: Weights identifies the program and its arguments.
func (t *trainer) Info() model.Info { return t.info }

// versionIn finds a program's version in what it says: "trl env" tells those of half a dozen packages.
func versionIn(program string, said []byte) string {
	for _, name := range []string{regexp.QuoteMeta(filepath.Base(program)) + `\s+`, ""} {
		if m := regexp.MustCompile(`(?i)` + name + `version[^0-9\n]{0,20}(\d+\.\d+[\w.+-]*)`).FindSubmatch(said); m != nil {
			return string(m[1])
		}
	}
	return lastLines(said, 1)
}

// checkEnvironment finds every program and script of the command lines and asks for the version.
func (t *trainer) checkEnvironment(ctx context.Context) (version string, err error) {
	var errs []error
	for _, method := range slices.Sorted(maps.Keys(t.lines)) {
		l := t.lines[method]
		if _, err := t.find(l[0]); err != nil {
			errs = append(errs, err)
		}
		for _, arg := range l[1:] {
			if strings.HasSuffix(arg, ".py") && !strings.Contains(arg, "{") {
				if _, err := os.Stat(arg); err != nil {
					errs = append(errs, fmt.Errorf("%w: script %s of option %s: %w", model.ErrConfig, arg, method, err))
				}
				break
			}
		}
	}
	if err := errors.Join(errs...); err != nil || len(t.versionQuestion) == 0 {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // Python reads gigabytes the first time
	defer cancel()
	program, err := t.find(t.versionQuestion[0])
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, t.versionQuestion[1:]...)
	cmd.Env = t.environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s does not run: %w: %s", model.ErrConfig, strings.Join(t.versionQuestion, " "), err, lastLines(out, 5))
	}
	return versionIn(program, out), nil
}

// find is exec.LookPath with the folder bin in front.
func (t *trainer) find(program string) (string, error) {
	if t.bin != "" && !strings.Contains(program, "/") {
		if found, err := exec.LookPath(filepath.Join(t.bin, program)); err == nil {
			return filepath.Abs(found)
		}
	}
	found, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%w: %s is not installed here: %w; install it, or set option bin to the bin folder of its virtual environment", model.ErrConfig, program, err)
	}
	return filepath.Abs(found)
}

// environment is what programs inherit, with bin in front of the PATH.
func (t *trainer) environment() []string {
	env := append(os.Environ(), "PYTHONUNBUFFERED=1") // or its last words are lost with it
	if t.bin != "" {
		env = append(env, "PATH="+t.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	return env
}
