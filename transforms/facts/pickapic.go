package facts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[scanFn]())
	beam.RegisterDoFn(reflect.TypeFor[chunkFn]())
}

// Values of PickAPicConfig.Labels: which rows to take.
const (
	// Strict takes rows where one picture was preferred: what a teacher can agree with.
	Strict = "strict"
	// Labelled takes ties too: what accuracy is measured on.
	Labelled = "labelled"
	// All takes rows without a label too.
	All = "all"
)

// PickAPicConfig says which rows of Pick-a-Pic to take.
type PickAPicConfig struct {
	// Path is a Parquet file, a directory of them or a glob.
	Input `yaml:",inline"`
	// Split takes the files whose names begin so, up to the first hyphen (train-00000-of-00645.parquet);
	// "" takes all.
	Split string `json:"split" yaml:"split"`
	// Labels is strict, labelled or all.
	Labels string `json:"labels" yaml:"labels"`
}

// DefaultPickAPic takes preferences from the training split, as the paper does (section 3.1). Path, Store
// and Seed are left to the caller.
func DefaultPickAPic() PickAPicConfig {
	return PickAPicConfig{Input: Input{Name: "pickapic"}, Split: "train", Labels: Strict}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c PickAPicConfig) Validate() error {
	faults := settings.Of("facts.pick_a_pic")
	c.check(faults)
	faults.Check(c.Labels == Strict || c.Labels == Labelled || c.Labels == All, "labels: %q is not one of %s, %s, %s", c.Labels, Strict, Labelled, All)
	return faults.Err()
}

// PickAPic reads Pick-a-Pic version 1 in the Parquet form of its authors (yuvalkirstain/pickapic_v1), the
// pictures being in the rows; their URLs are dead. It returns a PCollection<schemas.Fact> of aspect pick, in
// no order; a PCollection<schemas.Rejected>; and the PCollection<schemas.Count> of both stages. It panics
// if cfg is not valid.
func PickAPic(s beam.Scope, cfg PickAPicConfig) (facts, rejected, counts beam.PCollection) {
	s = s.Scope("facts.PickAPic")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	chunks, deadRows, rowCounts := beam.ParDo3(s, &scanFn{Config: cfg}, beam.Impulse(s))
	facts, deadFacts, factCounts := beam.ParDo3(s, &chunkFn{Config: cfg}, beam.Reshuffle(s, chunks))
	return facts, beam.Flatten(s, deadRows, deadFacts), beam.Flatten(s, rowCounts, factCounts)
}

// A chunk is the chosen rows of one row group, ascending, counted from its first.
type chunk struct {
	Path  string
	Group int64
	Rows  []int64
}

// A place is where a row is; 12 bytes, because half a million are held.
type place struct{ file, group, row int32 }

// scanFn reads the small columns of all files and chooses rows.
type scanFn struct {
	Config PickAPicConfig

	tally ledger.Tally
}

func (fn *scanFn) StartBundle(context.Context, func(chunk), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *scanFn) FinishBundle(_ context.Context, _ func(chunk), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *scanFn) ProcessElement(ctx context.Context, _ []byte, emit func(chunk), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	paths, err := fn.paths()
	if err != nil {
		return fmt.Errorf("facts: input %s: %w", fn.Config.Name, err)
	}
	var all []choice[place]
	for i, path := range paths {
		err := readRows(path, func(at place, row *pickRow) error {
			if row.at == 0 {
				if err := context.Cause(ctx); err != nil {
					return err
				}
			}
			fn.tally.In(StageTable, 1)
			fact, d := row.fact(fn.Config, path)
			key := fmt.Sprintf("%s:%s#%d", fn.Config.Name, filepath.Base(path), row.at)
			switch {
			case d.reason != "":
				bury(&fn.tally, StageTable, key, d, row, reject)
			case fn.filter(fact) != "":
				fn.tally.Filtered(StageTable, fn.filter(fact), 1)
			default:
				at.file = int32(i)
				all = append(all, choice[place]{schemas.Rank(fn.Config.Seed, fact.ID), fact.ID, at})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("facts: input %s: read %s: %w", fn.Config.Name, path, err)
		}
	}
	chosen, duplicates, notChosen := choose(fn.Config.Input, all)
	fn.tally.Filtered(StageTable, Duplicate, duplicates)
	fn.tally.Filtered(StageTable, NotChosen, notChosen)
	fn.tally.Out(StageTable, len(chosen))
	for _, c := range chunks(paths, chosen) {
		emit(c)
	}
	return nil
}

func (fn *scanFn) paths() ([]string, error) {
	paths, err := files(fn.Config.Path, ".parquet")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range paths {
		if fn.Config.Split == "" || splitOf(p) == fn.Config.Split {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("none of %d files in %s is of split %q: their names begin with it, as in train-00000-of-00645.parquet; \"\" takes all", len(paths), fn.Config.Path, fn.Config.Split)
	}
	return out, nil
}

// splitOf is a file's name up to the first hyphen.
func splitOf(path string) string {
	split, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".parquet"), "-")
	return split
}

// filter is why the recipe leaves a good row out, or "".
func (fn *scanFn) filter(f schemas.Fact) string {
	switch {
	case f.Preference == schemas.NoPreference && fn.Config.Labels != All:
		return Unlabelled
	case f.Preference == schemas.Tie && fn.Config.Labels == Strict:
		return TiedLabel
	}
	return ""
}

// A pickRow is what the small columns of a row say. Names are those of the columns.
type pickRow struct {
	// at is the row's number in its file.
	at       int64
	Caption  string     `json:"caption"`
	UID      [2]string  `json:"image_uid"`
	Labels   [2]float64 `json:"label"`
	HasLabel bool       `json:"has_label"`
	Best     string     `json:"best_image_uid"`
	Ranking  string     `json:"ranking_id"`
}

// fact makes a fact of a row, without pictures.
func (r *pickRow) fact(cfg PickAPicConfig, path string) (f schemas.Fact, d death) {
	text, ok := promptText(r.Caption)
	if !ok {
		return f, dead(BadPrompt, "caption %.100q", r.Caption)
	}
	if r.UID[0] == "" || r.UID[1] == "" || r.UID[0] == r.UID[1] {
		return f, dead(NoPictureName, "image_0_uid %q, image_1_uid %q", r.UID[0], r.UID[1])
	}
	preference, d := r.preference()
	if d.reason != "" {
		return f, d
	}
	f = schemas.Fact{
		Source: cfg.Name, SourceID: r.Ranking, Split: splitOf(path), Aspect: schemas.Pick, Prompt: text,
		FirstID: "pickapic/" + r.UID[0], SecondID: "pickapic/" + r.UID[1],
		Preference: preference, FactSource: schemas.FactHuman,
	}
	if preference == schemas.NoPreference {
		f.FactSource = schemas.FactNone
	}
	f.ID = schemas.FactID(f.Aspect, f.Prompt, f.FirstID, f.SecondID)
	f.Group = schemas.GroupID(f.Prompt, f.FirstID, f.SecondID)
	return f, d
}

// preference reads the labels: 1 and 0, 0 and 1, or .5 twice for a tie.
func (r *pickRow) preference() (string, death) {
	if !r.HasLabel {
		return schemas.NoPreference, death{}
	}
	preference, loser := schemas.Tie, ""
	switch r.Labels {
	case [2]float64{1, 0}:
		preference, loser = schemas.First, r.UID[1]
	case [2]float64{0, 1}:
		preference, loser = schemas.Second, r.UID[0]
	case [2]float64{.5, .5}:
	default:
		return "", dead(BadLabel, "labels %v and %v", r.Labels[0], r.Labels[1])
	}
	if loser != "" && r.Best == loser {
		return "", dead(BadLabel, "labels %v and %v, but the best picture is %q", r.Labels[0], r.Labels[1], r.Best)
	}
	return preference, death{}
}

// chunks gathers places by row group, in the order of files.
func chunks(paths []string, chosen []choice[place]) []chunk {
	places := make([]place, len(chosen))
	for i, c := range chosen {
		places[i] = c.row
	}
	sortPlaces(places)
	var out []chunk
	for i, p := range places {
		if i == 0 || p.file != places[i-1].file || p.group != places[i-1].group {
			out = append(out, chunk{Path: paths[p.file], Group: int64(p.group)})
		}
		last := &out[len(out)-1]
		last.Rows = append(last.Rows, int64(p.row))
	}
	return out
}

// chunkFn reads the pictures of chosen rows.
type chunkFn struct {
	Config PickAPicConfig

	keeper keeper
	tally  ledger.Tally
}

func (fn *chunkFn) Setup(ctx context.Context) (err error) {
	fn.keeper, err = openKeeper(ctx, fn.Config.Input)
	return err
}

func (fn *chunkFn) StartBundle(context.Context, func(schemas.Fact), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *chunkFn) FinishBundle(_ context.Context, _ func(schemas.Fact), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *chunkFn) ProcessElement(ctx context.Context, c chunk, emit func(schemas.Fact), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	err := readPictures(ctx, c, fn.keeper, fn.Config.maxBytes(), func(row *pickRow, refs [2]schemas.ImageRef, d death) error {
		fact, bad := row.fact(fn.Config, c.Path)
		if bad.reason != "" {
			return errors.New("a chosen row has changed: the file was written over while it was read; start again")
		}
		fn.tally.In(Stage, 1)
		fact.First, fact.Second = refs[0], refs[1]
		if settle(&fn.tally, fact, fact, d, reject) {
			emit(fact)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("facts: input %s: row group %d of %s: %w", fn.Config.Name, c.Group, c.Path, err)
	}
	return nil
}

// settle counts a fact whose pictures were read and says whether it is to be emitted; payload is what
// its dead letter holds.
func settle(t *ledger.Tally, f schemas.Fact, payload any, d death, reject func(schemas.Rejected)) bool {
	switch {
	case d.reason != "":
		bury(t, Stage, f.ID, d, payload, reject)
		return false
	case f.First.SHA256 == f.Second.SHA256:
		t.Filtered(Stage, SamePicture, 1)
		return false
	}
	t.Out(Stage, 1)
	return true
}
