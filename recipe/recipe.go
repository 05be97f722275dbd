package recipe

import (
	"embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/runners/engine"
	"github.com/promptmill/promptmill/transforms/dedup"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/metajudge"
	"github.com/promptmill/promptmill/transforms/prefer"
	"github.com/promptmill/promptmill/transforms/rewrite"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/source"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/train"
)

//go:embed paper.yaml demo.yaml tiny.yaml init.yaml
var builtin embed.FS

// Builtin are the names of the embedded recipes: paper has the paper's numbers, demo runs in a minute
// on the tiny models, init is the same from untaught weights on, and tiny has what these were taught. Every other recipe extends one of them; paper is the default.
func Builtin() []string { return []string{"paper", "demo", "tiny", "init"} }

// A Recipe says everything that decides what a job makes. Its sections are the transforms' own settings.
type Recipe struct {
	Name string `json:"name" yaml:"name"`
	// Seed is the run seed: every model seed, order and split derives from it.
	Seed int64 `json:"seed" yaml:"seed"`
	// Prompts are what preference rewrites, Pairs what sft learns from.
	Prompts source.Config  `json:"prompts" yaml:"prompts"`
	Pairs   source.Config  `json:"pairs" yaml:"pairs"`
	Heldout heldout.Config `json:"heldout" yaml:"heldout"`
	Dedup   dedup.Config   `json:"dedup" yaml:"dedup"`
	Select  Select         `json:"select" yaml:"select"`
	Models  Models         `json:"models" yaml:"models"`

	Templates Templates       `json:"templates" yaml:"templates"`
	Rewrite   rewrite.Config  `json:"rewrite" yaml:"rewrite"`
	Imagegen  imagegen.Config `json:"imagegen" yaml:"imagegen"`
	Judge     judge.Config    `json:"judge" yaml:"judge"`
	Prefer    prefer.Config   `json:"prefer" yaml:"prefer"`
	// JudgmentPairs are pairs of the judge's own answers.
	JudgmentPairs metajudge.Config `json:"judgment_pairs,omitzero" yaml:"judgment_pairs"`

	// Evaluation and Judgment are the parts of the supervised set that a teacher makes.
	Evaluation evaluation.Config `json:"evaluation,omitzero" yaml:"evaluation"`
	Teacher    teacher.Config    `json:"teacher,omitzero" yaml:"teacher"`
	Judgment   judgment.Config   `json:"judgment,omitzero" yaml:"judgment"`
	Audit      Audit             `json:"audit,omitzero" yaml:"audit"`

	SFT     SFT     `json:"sft" yaml:"sft"`
	Parquet Parquet `json:"parquet" yaml:"parquet"`
	Gates   Gates   `json:"gates" yaml:"gates"`

	Training   Training     `json:"training" yaml:"training"`
	DPO        train.Params `json:"dpo" yaml:"dpo"`
	SelfReward SelfReward   `json:"selfreward" yaml:"selfreward"`
	Metrics    Metrics      `json:"metrics" yaml:"metrics"`

	Plan Plan `json:"plan" yaml:"plan"`
	// Engine says where and how a cluster runs the job; it decides nothing about the rows.
	Engine engine.Config `json:"engine,omitzero" yaml:"engine"`
}

// Select says how much of the prompt set to use.
type Select struct {
	// Prompts takes the first so many prompts by hash rank; 0 takes all.
	Prompts int64 `json:"prompts" yaml:"prompts"`
}

// Models are the roles. In self-rewarding training policy and judge are one model; the teacher is another.
type Models struct {
	Policy model.Spec `json:"policy" yaml:"policy"`
	Images model.Spec `json:"images" yaml:"images"`
	Judge  model.Spec `json:"judge" yaml:"judge"`
	// Teacher explains what people said about pictures, for the supervised set.
	Teacher model.Spec `json:"teacher,omitzero" yaml:"teacher"`
}

// Templates choose the wording of what models are asked.
type Templates struct {
	// Set is the name of an embedded set.
	Set string `json:"set" yaml:"set"`
	// Files replace single templates of the set: task (rewrite, aesthetic, pick, alignment) to file.
	Files map[string]string `json:"files" yaml:"files"`
}

// Parquet are the settings of the files written.
type Parquet struct {
	// RowGroup is the number of rows of a row group; 0 is the default (10,000 of text).
	RowGroup int `json:"row_group" yaml:"row_group"`
	// ShardRows is the number of rows of a file that the number of files is planned for.
	ShardRows int64 `json:"shard_rows" yaml:"shard_rows"`
}

// Plan is what `promptmill plan` reckons with; it changes nothing about a run.
type Plan struct {
	ChatSeconds  float64 `json:"chat_seconds" yaml:"chat_seconds"`
	ImageSeconds float64 `json:"image_seconds" yaml:"image_seconds"`
	// ImageTokens is what the judge's server counts for one picture.
	ImageTokens int `json:"image_tokens" yaml:"image_tokens"`
	// Prices are in the user's currency per million tokens and per thousand pictures.
	PromptTokenPrice     float64 `json:"prompt_token_price" yaml:"prompt_token_price"`
	CompletionTokenPrice float64 `json:"completion_token_price" yaml:"completion_token_price"`
	ImagePrice           float64 `json:"image_price" yaml:"image_price"`
}

// Load reads a recipe, an embedded one by its name or a file, lays --set assignments over it and checks
// it whole. An error names, for every fault, the file and line or the assignment.
func Load(nameOrFile string, assignments []string) (*Recipe, *Document, error) {
	bases := map[string][]byte{}
	for _, name := range Builtin() {
		text, err := builtin.ReadFile(name + ".yaml")
		if err != nil {
			return nil, nil, err
		}
		bases[name] = text
	}
	file, otherwise := nameOrFile, "paper"
	text, ok := bases[nameOrFile]
	if ok {
		file += ".yaml"
		if nameOrFile == otherwise {
			otherwise = ""
		}
	} else {
		var err error
		if text, err = os.ReadFile(nameOrFile); err != nil {
			return nil, nil, fmt.Errorf("recipe: %w; name a file or one of the embedded recipes, %s", err, strings.Join(Builtin(), ", "))
		}
	}
	doc, err := Parse(file, text)
	if err != nil {
		return nil, nil, err
	}
	if err := doc.Extend(bases, otherwise); err != nil {
		return nil, nil, err
	}
	if err := doc.Set(assignments); err != nil {
		return nil, nil, err
	}
	r := &Recipe{}
	if err := doc.Decode(r); err != nil {
		return nil, nil, err
	}
	return r, doc, nil
}

// SetInFlight lets every section that asks a model have n elements at work in one bundle. It comes before Bind.
func (r *Recipe) SetInFlight(n int) {
	for _, inFlight := range []*int{
		&r.Rewrite.InFlight, &r.Imagegen.InFlight, &r.Judge.InFlight, &r.JudgmentPairs.InFlight, &r.Teacher.InFlight, &r.Audit.InFlight,
	} {
		*inFlight = n
	}
}

// Bind hands the sections what they share: models, the response log at cache, templates, the seed. It
// reads the template files that the recipe names.
func (r *Recipe) Bind(cache string) error {
	set, err := r.templates()
	if err != nil {
		return err
	}
	r.Prompts.Seed, r.Pairs.Seed, r.Metrics.Prompts.Seed, r.Dedup.Seed = r.Seed, r.Seed, r.MetricsSeed(), r.Seed
	r.Rewrite.Model, r.Rewrite.Cache, r.Rewrite.Seed, r.Rewrite.Template = r.Models.Policy, cache, r.Seed, set.Rewrite
	r.Imagegen.Model, r.Imagegen.Cache, r.Imagegen.Seed = r.Models.Images, cache, r.Seed
	r.Judge.Model, r.Judge.Cache, r.Judge.Seed, r.Judge.Templates = r.Models.Judge, cache, r.Seed, set
	p := &r.JudgmentPairs
	p.Model, p.Cache, p.Seed, p.Templates = r.Models.Judge, cache, r.Seed, set
	r.Prefer.Aspects, r.Prefer.Template, r.Prefer.Continues = r.Judge.Aspects, set.Rewrite, r.Rewrite.Continues
	r.bindSupervised(cache, set)
	return nil
}

func (r *Recipe) templates() (template.Set, error) {
	set, err := template.Open(r.Templates.Set)
	if err != nil {
		return set, fmt.Errorf("templates.set: %w", err)
	}
	for _, task := range slices.Sorted(maps.Keys(r.Templates.Files)) {
		file := r.Templates.Files[task]
		data, err := os.ReadFile(file)
		if err == nil {
			set, err = set.Replace(task, filepath.Base(file), data)
		}
		if err != nil {
			return set, fmt.Errorf("templates.files.%s: %w", task, err)
		}
	}
	return set, nil
}

// Validate joins all faults of a bound recipe, each beginning with the path of its key.
func (r *Recipe) Validate() error {
	faults := settings.Of("")
	faults.Check(r.Name != "", "name: empty; a recipe has a name, it stands in every manifest")
	faults.Check(r.Select.Prompts >= 0, "select.prompts: %d is negative; 0 takes all prompts", r.Select.Prompts)
	for i, a := range r.JudgmentPairs.Aspects {
		judged := r.JudgmentPairs.Asked == 0 || !slices.Contains(judge.Aspects(), a) || slices.Contains(r.Judge.Aspects, a)
		faults.Check(judged, "judgment_pairs.aspects[%d]: %s is not among judge.aspects, so there are no answers to judge; take it out, or set judgment_pairs.asked to 0", i, a)
	}
	faults.Check(r.Parquet.RowGroup >= 0, "parquet.row_group: %d is negative; 0 is the default", r.Parquet.RowGroup)
	faults.Check(r.Parquet.ShardRows >= 1, "parquet.shard_rows: %d is not positive; 25000 makes files of a few megabytes", r.Parquet.ShardRows)
	faults.Join(
		settings.Under("prompts", "source", r.Prompts.Validate()), settings.Under("pairs", "source", r.Pairs.Validate()), r.Heldout.Validate(), r.Dedup.Validate(),
		r.Rewrite.Validate(), r.Imagegen.Validate(), r.Judge.Validate(), r.Prefer.Validate(), r.JudgmentPairs.Validate(),
		r.Gates.Validate(), r.validateLoop(), r.validateSupervised(), r.Engine.Validate())
	return faults.Err()
}

// Decides is the part of a bound recipe that decides the rows: without where servers are, how hard they
// are driven, where answers are kept, what is only reckoned or checked, and what is done with the rows. Run ids
// rest on it.
func (r *Recipe) Decides() *Recipe {
	c := *r
	c.Name, c.Plan, c.Gates, c.Parquet = "", Plan{}, Gates{}, Parquet{}
	c.Engine = engine.Config{}
	c.SFT, c.Evaluation, c.Teacher, c.Judgment, c.Audit = SFT{ValidationPermille: r.SFT.ValidationPermille}, evaluation.Config{}, teacher.Config{}, judgment.Config{}, Audit{}
	c.Training, c.DPO, c.SelfReward, c.Metrics = Training{}, train.Params{}, SelfReward{}, Metrics{}
	c.Models = Models{Policy: decides(c.Models.Policy), Images: decides(c.Models.Images), Judge: decides(c.Models.Judge)}
	c.Rewrite.Model, c.Imagegen.Model, c.Judge.Model = model.Spec{}, model.Spec{}, model.Spec{}
	c.Rewrite.Cache, c.Imagegen.Cache, c.Judge.Cache = "", "", ""
	c.Rewrite.InFlight, c.Imagegen.InFlight, c.Judge.InFlight = 0, 0, 0
	c.JudgmentPairs.Model, c.JudgmentPairs.Cache, c.JudgmentPairs.InFlight = model.Spec{}, "", 0
	if c.JudgmentPairs.Asked == 0 {
		c.JudgmentPairs = metajudge.Config{}
	}
	return &c
}

// decides keeps of a spec what says which weights answer.
func decides(s model.Spec) model.Spec {
	return model.Spec{Backend: s.Backend, Model: s.Model, Revision: s.Revision, Options: s.Options}
}
