package facts_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/facts"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

const fixtures = "../../testdata/facts/"

// A result is what a source gave. Counts are by stage.outcome or stage.outcome.reason.
type result struct {
	facts  []schemas.Fact
	dead   []schemas.Rejected
	counts map[string]int64
}

type transform func(beam.Scope) (facts, rejected, counts beam.PCollection)

// run runs a source and checks what holds for all: the ledger balances, dead letters are counted, facts
// are valid, and their pictures are in the store.
func run(t *testing.T, storeURL string, f transform) result {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	rows, rejected, counts := f(s)
	facts, dead, counted := transformtest.Collect[schemas.Fact](s, rows), transformtest.Collect[schemas.Rejected](s, rejected), transformtest.Collect[schemas.Count](s, counts)
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
	r := result{facts: facts(), dead: dead(), counts: map[string]int64{}}
	err := ledger.Check(counted(), map[string]int64{"facts": int64(len(r.facts)), "rejected": int64(len(r.dead))},
		[]string{"facts.out = rows.facts", "*.dead = rows.rejected"})
	if err != nil {
		t.Error(err)
	}
	for _, c := range ledger.Sum(counted()) {
		r.counts[strings.TrimSuffix(c.Stage+"."+c.Outcome+"."+c.Reason, ".")] = c.N
	}
	st, err := store.Open(t.Context(), storeURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.facts {
		if err := f.Validate(); err != nil {
			t.Error(err)
		}
		if f.ID != schemas.FactID(f.Aspect, f.Prompt, f.FirstID, f.SecondID) || f.Group != schemas.GroupID(f.Prompt, f.FirstID, f.SecondID) {
			t.Errorf("fact %s: id or group is not the content's", f.ID)
		}
		for _, ref := range []schemas.ImageRef{f.First, f.Second} {
			data, err := store.GetBlob(t.Context(), st, ref.SHA256)
			if err != nil {
				t.Errorf("fact %s: %v", f.ID, err)
				continue
			}
			if info, err := model.Inspect(data, model.PictureLimits{}); err != nil || int32(info.Width) != ref.Width || int32(info.Height) != ref.Height {
				t.Errorf("fact %s: picture %s: %+v, %v", f.ID, ref.SHA256, info, err)
			}
		}
	}
	for _, d := range r.dead {
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
		if d.Payload == "" || d.Detail == "" {
			t.Errorf("dead letter %s says nothing: %+v", d.Key, d)
		}
	}
	return r
}

func (r result) ids() (ids []string) {
	for _, f := range r.facts {
		ids = append(ids, f.ID)
	}
	return ids
}

// want compares counts, those of Used aside; wanted zeros need not be named.
func (r result) want(t *testing.T, want map[string]int64) {
	t.Helper()
	if !maps.Equal(r.counts, want) {
		t.Errorf("counts %v, want %v", r.counts, want)
	}
}

// byRank are ids in the order in which sources choose them.
func byRank(ids []string, seed int64) []string {
	return slices.SortedFunc(slices.Values(ids), func(a, b string) int {
		if schemas.Rank(seed, a) < schemas.Rank(seed, b) {
			return -1
		}
		return 1
	})
}

func equalSets(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// badPictures are bytes that no source may hand on, with the reason why.
func badPictures(t *testing.T) map[string]struct {
	data   []byte
	reason string
} {
	t.Helper()
	good := shot(t, "a cat", 1)
	deep := image.NewNRGBA64(image.Rect(0, 0, 8, 8))
	for i := range deep.Pix {
		deep.Pix[i] = byte(37 * i)
	}
	huge := bytes.Clone(good)
	copy(huge[16:24], []byte{0, 0, 0x9c, 0x40, 0, 0, 0x9c, 0x40}) // IHDR: 40000 x 40000
	sum(huge[12:33])
	animated := slices.Concat(good[:33], chunk("acTL", []byte{0, 0, 0, 2, 0, 0, 0, 0}), good[33:])
	var frames bytes.Buffer
	frame := image.NewPaletted(image.Rect(0, 0, 4, 4), color.Palette{color.White, color.Black})
	if err := gif.EncodeAll(&frames, &gif.GIF{Image: []*image.Paletted{frame, frame}, Delay: []int{1, 1}}); err != nil {
		t.Fatal(err)
	}
	var grey bytes.Buffer
	if err := jpeg.Encode(&grey, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	// A start of frame with four components of 8 bits: CMYK.
	cmyk := slices.Concat([]byte("\xff\xd8\xff\xc0\x00\x14\x08\x00\x08\x00\x08\x04"), []byte{1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0}, []byte("\xff\xd9"))
	return map[string]struct {
		data   []byte
		reason string
	}{
		"empty":     {[]byte{}, facts.EmptyPicture},
		"text":      {[]byte("404 not found"), facts.BadPicture},
		"cut":       {good[:len(good)/2], facts.BadPicture},
		"huge":      {huge, facts.BadPicture},
		"animated":  {animated, facts.BadPicture},
		"gif":       {frames.Bytes(), facts.BadPicture},
		"cmyk":      {cmyk, facts.BadPicture},
		"deep":      {encodePNG(t, deep), facts.BadPicture},
		"black":     {grey.Bytes(), facts.Black},
		"too large": {append(bytes.Clone(good), make([]byte, maxBytes)...), facts.TooManyBytes},
	}
}

// maxBytes is the limit that tests of bad pictures set.
const maxBytes = 100_000

// chunk is a chunk of a PNG.
func chunk(kind string, data []byte) []byte {
	out := slices.Concat([]byte{0, 0, 0, byte(len(data))}, []byte(kind), data, make([]byte, 4))
	sum(out[4:])
	return out
}

// sum puts the checksum of a chunk's kind and data behind them.
func sum(b []byte) {
	c := crc32.ChecksumIEEE(b[:len(b)-4])
	copy(b[len(b)-4:], []byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)})
}

func shot(t *testing.T, prompt string, seed int64) []byte {
	t.Helper()
	data, err := scene.Draw(prompt, seed).PNG(scene.Side, scene.Side)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func encodePNG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type validator interface{ Validate() error }

func TestConfigs(t *testing.T) {
	in := facts.Input{Name: "n", Path: "p.csv", Rows: 1, Skip: 2, MaxBytes: 3, MaxPixels: 4, Store: "s", Seed: 5}
	pairs := facts.Pairs{Images: "i", MinGap: 1, MinVotes: 2}
	transformtest.RoundTrip(t, facts.PickAPicConfig{Input: in, Split: "train", Labels: facts.All})
	transformtest.RoundTrip(t, facts.AVAConfig{Input: in, Pairs: pairs})
	transformtest.RoundTrip(t, facts.SACConfig{Input: in, Pairs: pairs})
	transformtest.RoundTrip(t, facts.TableConfig{Input: in, Pairs: pairs, Columns: map[string]string{"image": "file"}, Aspect: schemas.Pick})
	transformtest.RoundTrip(t, facts.OracleConfig{Name: "n", Pairs: 1, Aspects: []string{schemas.Pick}, Noise: .1, TieBelow: .2, Width: 32, Height: 64, Store: "s", Seed: 1})
	transformtest.RoundTrip(t, facts.GeneratedConfig{Name: "n", Candidates: 1, Aspects: []string{schemas.Pick}, Seed: 1})
	for _, tt := range []struct {
		cfg  validator
		want []string
	}{
		{facts.PickAPicConfig{}, []string{"facts.pick_a_pic.name: ", "facts.pick_a_pic.path: ", "facts.pick_a_pic.store: ", `facts.pick_a_pic.labels: "" is not one of`}},
		{facts.PickAPicConfig{Input: facts.Input{Name: "a/b", Path: "s3://x/y", Rows: -1, Skip: -1, MaxBytes: -1, MaxPixels: -1}}, []string{`.name: "a/b"`, ".path: s3://", ".rows: -1", ".skip: -1", ".max_bytes: -1", ".max_pixels: -1"}},
		{facts.AVAConfig{Pairs: facts.Pairs{MinVotes: -1}}, []string{"facts.ava.images: ", "facts.ava.min_gap: 0 is not more than 0", "facts.ava.min_votes: -1"}},
		{facts.SACConfig{Pairs: facts.Pairs{MinGap: math.NaN()}}, []string{"facts.sac.min_gap: NaN"}},
		{facts.TableConfig{Input: facts.Input{Path: "a.xls"}, Columns: map[string]string{"picture": "x"}, Aspect: "taste"}, []string{`facts.table.path: "a.xls"`, "facts.table.columns.picture: ", `facts.table.aspect: "taste"`}},
		{facts.OracleConfig{Aspects: []string{"pick", "pick", "x"}, Noise: -1, TieBelow: 6}, []string{"facts.oracle.pairs: 0", "facts.oracle.aspects[1]: ", "facts.oracle.aspects[2]: ", "facts.oracle.noise: -1", "facts.oracle.tie_below: 6", "facts.oracle.width: 0", "facts.oracle.height: 0"}},
		{facts.GeneratedConfig{}, []string{"facts.generated.candidates: 0", "facts.generated.aspects: "}},
	} {
		err := tt.cfg.Validate()
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%T: no %q in: %v", tt.cfg, want, err)
			}
		}
	}
	for _, cfg := range []validator{facts.DefaultPickAPic(), facts.DefaultAVA(), facts.DefaultSAC(), facts.DefaultTable(), facts.DefaultOracle(), facts.DefaultGenerated()} {
		var joined interface{ Unwrap() []error }
		if err := cfg.Validate(); err != nil && errors.As(err, &joined) {
			for _, e := range joined.Unwrap() {
				if !strings.Contains(e.Error(), ".path: ") && !strings.Contains(e.Error(), ".images: ") && !strings.Contains(e.Error(), ".store: ") {
					t.Errorf("%T: the default is not valid: %v", cfg, e)
				}
			}
		}
	}
}

func TestInvalidConfigPanics(t *testing.T) {
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "facts.ava.path") {
			t.Errorf("recovered %v", p)
		}
	}()
	_, s := beam.NewPipelineWithRoot()
	facts.AVA(s, facts.AVAConfig{})
}
