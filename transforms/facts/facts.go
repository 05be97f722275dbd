// Package facts reads what people said about pictures: comparisons (Pick-a-Pic), scores from which
// pairs are formed (AVA, SAC, any table), and the procedural world's stand-in for people. Rows of those
// sources go in, schemas.Fact come out, their pictures in the blob store; a row or a picture that
// cannot be used is a dead letter.
//
// # Design
//
// Pictures are read last. The rows are chosen by the rank of their id (schemas.Rank), which is known from
// the small columns; only then are the bytes of the chosen ones read, checked and put under their
// SHA-256. What crosses a shuffle is names, and the first N rows are the same whatever N is.
//
// What is read of a Parquet file are the pages that hold a chosen picture. Where the file has a page index and
// pages of a mebibyte, 50 of 1,000 rows with pictures of 200 KB read 88 of 400 MB, and 200 of 20,000 rows with
// pictures of 7 KB, of which a page holds a hundred and more, 224 of 283 MB. Without an index a row group is read up
// to its last chosen row. pyarrow makes one page of a thousand rows or a row group, whichever is less, so of its files
// the row groups with a chosen row are read whole.
//
// One worker chooses: the small columns of the largest of these sources are a few hundred megabytes to
// read and 64 bytes a row to hold, which is less than shuffling them would cost. The reading of pictures is
// spread over all workers.
//
// The ledger has two stages because their units differ: StageTable counts the rows of a table as they
// stand in it (of a table of scores, pictures: two make a fact), Stage the facts whose pictures are
// wanted.
package facts

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"golang.org/x/text/unicode/norm"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
)

// Stages in the ledger and in dead letters.
const (
	StageTable = "fact_table"
	Stage      = "facts"
)

// Reasons of dead letters.
const (
	// BadRow: the row does not have the form of its table.
	BadRow = "bad_row"
	// BadLabel: labels that are none of 0, 0.5 and 1, do not add up, or contradict the best picture.
	BadLabel = "bad_label"
	// BadScore: no finite number, or outside the source's scale.
	BadScore = "bad_score"
	// BadPrompt: empty, not UTF-8, or with control characters.
	BadPrompt = "bad_prompt"
	// NoPictureName: the row does not say which picture it is about.
	NoPictureName = "no_picture_name"
	// MissingPicture: it is not where the pictures are.
	MissingPicture = "missing_picture"
	// BadPath: the name leads out of the folder of pictures.
	BadPath = "bad_path"
	// EmptyPicture: no bytes.
	EmptyPicture = "empty_picture"
	// TooManyBytes: longer than max_bytes.
	TooManyBytes = "too_many_bytes"
	// BadPicture: model.Inspect refuses it (format, damage, size); Detail says what it found.
	BadPicture = "bad_picture"
	// Black: it shows nothing.
	Black = "black"
)

// Reasons of filtered rows.
const (
	// NotChosen: good, but not among the first rows by rank.
	NotChosen = "not_chosen"
	// Duplicate: another row is about the same.
	Duplicate = "duplicate"
	// TiedLabel and Unlabelled: left out by labels.
	TiedLabel  = "tie"
	Unlabelled = "unlabelled"
	// FewVotes: fewer than min_votes.
	FewVotes = "few_votes"
	// Unpaired: no picture left whose score is far enough away.
	Unpaired = "unpaired"
	// SamePicture: the two pictures are equal byte for byte.
	SamePicture = "same_picture"
)

func init() {
	beam.RegisterType(reflect.TypeFor[want]())
	beam.RegisterType(reflect.TypeFor[chunk]())
	register.Emitter1[want]()
	register.Emitter1[chunk]()
	register.Emitter1[schemas.Fact]()
	register.Emitter2[beam.EventTime, schemas.Fact]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Input is what all sources that are read from files share.
type Input struct {
	// Name goes into the rows' source column and into dead letters.
	Name string `json:"name" yaml:"name"`
	// Path names the file with what people said; for Pick-a-Pic also a directory or a glob.
	Path string `json:"path" yaml:"path"`
	// Rows takes so many facts, the first by rank, after the first Skip; 0 takes all. A row that dies
	// later is not replaced: a caller that needs an exact number goes on with Skip.
	Rows int64 `json:"rows" yaml:"rows"`
	Skip int64 `json:"skip" yaml:"skip"`
	// MaxBytes bounds one encoded picture, MaxPixels what is decoded of it; 0 takes 32 MiB and the default of
	// model.PictureLimits.
	MaxBytes  int64 `json:"max_bytes" yaml:"max_bytes"`
	MaxPixels int64 `json:"max_pixels" yaml:"max_pixels"`
	// Store is the URL of the store that keeps the pictures.
	Store string `json:"store" yaml:"-"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
}

const defaultMaxBytes = 32 << 20

func (in Input) maxBytes() int64 { return cmp.Or(in.MaxBytes, defaultMaxBytes) }

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func (in Input) check(faults *settings.Faults) {
	faults.Check(nameForm.MatchString(in.Name), "name: %q is not a name: use letters, digits, '_', '-' and '.'", in.Name)
	faults.Check(in.Path != "", "path: there is none: name the file to read")
	checkLocal(faults, "path", in.Path)
	faults.Check(in.Rows >= 0, "rows: %d is negative; 0 takes all", in.Rows)
	faults.Check(in.Skip >= 0, "skip: %d is negative", in.Skip)
	faults.Check(in.MaxBytes >= 0, "max_bytes: %d is negative; 0 takes the default", in.MaxBytes)
	faults.Check(in.MaxPixels >= 0, "max_pixels: %d is negative; 0 takes the default", in.MaxPixels)
	faults.Check(in.Store != "", "store: empty; name the store that keeps the pictures")
}

func checkLocal(faults *settings.Faults, field, path string) {
	scheme, _, remote := strings.Cut(path, "://")
	faults.Check(!remote, "%s: %s:// is not read by this program: copy the files to a disk that every worker sees", field, scheme)
}

// files lists the regular files that a path stands for, in name order; of a directory those that end in ending.
func files(path, ending string) ([]string, error) {
	st, err := os.Stat(path)
	switch {
	case err == nil && !st.IsDir():
		return []string{path}, nil
	case err == nil:
		path = filepath.Join(path, "*"+ending)
	case !errors.Is(err, fs.ErrNotExist) || !strings.ContainsAny(path, "*?["):
		return nil, fmt.Errorf("%w: check the spelling; a relative path starts at the directory the command runs in", err)
	}
	out, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("glob %s: %w", path, err)
	}
	out = slices.DeleteFunc(out, func(p string) bool {
		st, err := os.Stat(p)
		return err != nil || !st.Mode().IsRegular()
	})
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w: no file matches", path, fs.ErrNotExist)
	}
	return out, nil
}

// A choice is what is held of a row while rows are chosen.
type choice[T any] struct {
	rank uint64
	id   string
	row  T
}

// choose keeps the first rows by rank of in, which may have an id twice: the row that came first counts.
// It returns how many were duplicates and how many of the others are not chosen.
func choose[T any](in Input, all []choice[T]) (chosen []choice[T], duplicates, notChosen int) {
	slices.SortStableFunc(all, func(a, b choice[T]) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id))
	})
	n := len(all)
	all = slices.CompactFunc(all, func(a, b choice[T]) bool { return a.id == b.id })
	duplicates = n - len(all)
	chosen = all[min(in.Skip, int64(len(all))):]
	if in.Rows > 0 {
		chosen = chosen[:min(in.Rows, int64(len(chosen)))]
	}
	return chosen, duplicates, len(all) - len(chosen)
}

// promptText brings a prompt to NFC with white space folded; ok says that it is one.
func promptText(s string) (text string, ok bool) {
	if !utf8.ValidString(s) {
		return "", false
	}
	text = strings.Join(strings.Fields(norm.NFC.String(s)), " ")
	return text, text != "" && !strings.ContainsFunc(text, unicode.IsControl)
}

// A death says why a row or a picture cannot be used; the zero death is that it can.
type death struct{ reason, detail string }

func dead(reason, format string, args ...any) death {
	return death{reason, fmt.Sprintf(format, args...)}
}

const (
	detailBytes  = 300
	payloadBytes = 4 << 10
)

func letter(stage, key string, d death, payload any) schemas.Rejected {
	text, ok := payload.(string)
	if !ok {
		b, err := json.Marshal(payload)
		if err != nil {
			b = []byte(err.Error())
		}
		text = string(b)
	}
	return schemas.Rejected{
		Stage: stage, Key: key, Reason: d.reason, Attempts: 1, Detail: clip(d.detail, detailBytes), Payload: clip(text, payloadBytes),
	}
}

func clip(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "\ufffd") }

// bury counts a dead row and writes its letter.
func bury(t *ledger.Tally, stage, key string, d death, payload any, reject func(schemas.Rejected)) {
	t.Dead(stage, d.reason, 1)
	reject(letter(stage, key, d, payload))
}

// A want is a fact whose pictures are still to be read, and their names where the pictures are.
type want struct {
	Fact          schemas.Fact
	First, Second string
}
