package facts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "modernc.org/sqlite" // the driver "sqlite", in Go: workers need no C library for it

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/settings"
)

// SACConfig says which pairs of Simulacra Aesthetic Captions to take.
type SACConfig struct {
	// Path is the SQLite file, sac_public_2022_06_29.sqlite.
	Input `yaml:",inline"`
	// Images holds the pictures under the names of the table paths: the published tar files.
	Pairs `yaml:",inline"`
}

// DefaultSAC takes pairs at least one point of ten apart. Path, Images, Store and Seed are left to the caller.
func DefaultSAC() SACConfig {
	return SACConfig{Input: Input{Name: "sac"}, Pairs: Pairs{MinGap: 1}}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c SACConfig) Validate() error {
	faults := settings.Of("facts.sac")
	c.Input.check(faults)
	c.Pairs.check(faults)
	return faults.Err()
}

// SAC reads Simulacra Aesthetic Captions (Pressman, Crowson and others, 2022) and forms pairs of pictures
// drawn from one prompt. It returns a PCollection<schemas.Fact> of aspect aesthetic, in no order, the
// scores being means of ratings from 1 to 10; a PCollection<schemas.Rejected>; and the
// PCollection<schemas.Count> of both stages. It panics if cfg is not valid.
func SAC(s beam.Scope, cfg SACConfig) (facts, rejected, counts beam.PCollection) {
	s = s.Scope("facts.SAC")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return scored(s, "sac", TableConfig{Input: cfg.Input, Pairs: cfg.Pairs, Aspect: schemas.Aesthetic})
}

// sacQuery has a row for each picture that somebody rated. A rating that is no number from 1 to 10 is
// counted in bad: SQLite would take text for 0.
const sacQuery = `
WITH r AS (
	SELECT iid, AVG(rating) AS mean, COUNT(rating) AS votes,
		SUM(typeof(rating) NOT IN ('integer', 'real') OR rating < 1 OR rating > 10) AS bad
	FROM ratings GROUP BY iid),
p AS (SELECT iid, MIN(path) AS path FROM paths GROUP BY iid)
SELECT r.iid, r.mean, r.votes, r.bad, p.path, generations.prompt
FROM r
LEFT JOIN images ON images.id = r.iid
LEFT JOIN generations ON generations.id = images.gid
LEFT JOIN p ON p.iid = r.iid
ORDER BY r.iid`

func sacTable(cfg TableConfig) table {
	return func(ctx context.Context, yield func(string, string, picture, death) error) (err error) {
		// SQLite would make a file that is missing.
		if _, err := os.Stat(cfg.Path); err != nil {
			return err
		}
		abs, err := filepath.Abs(cfg.Path)
		if err != nil {
			return err
		}
		db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: "mode=ro&immutable=1"}).String())
		if err != nil {
			return err
		}
		defer db.Close()
		rows, err := db.QueryContext(ctx, sacQuery)
		if err != nil {
			return fmt.Errorf("query of ratings, images, generations and paths (is it SAC's SQLite file, whole?): %w", err)
		}
		defer func() { err = errors.Join(err, rows.Err(), rows.Close()) }()
		for rows.Next() {
			var r sacRow
			if err := rows.Scan(&r.id, &r.mean, &r.votes, &r.bad, &r.path, &r.prompt); err != nil {
				return fmt.Errorf("after picture %d: %w", r.id.Int64, err)
			}
			p, d := r.picture()
			key := fmt.Sprintf("%s:%s#%d", cfg.Name, filepath.Base(cfg.Path), r.id.Int64)
			if err := yield(key, fmt.Sprintf("%+v", r), p, d); err != nil {
				return err
			}
		}
		return nil
	}
}

type sacRow struct {
	id           sql.NullInt64
	mean         sql.NullFloat64
	votes, bad   int64
	path, prompt sql.NullString
}

func (r sacRow) picture() (picture, death) {
	text, ok := promptText(r.prompt.String)
	switch {
	case !r.id.Valid:
		return picture{}, dead(BadRow, "a rating of no picture")
	case r.bad > 0 || !r.mean.Valid || math.IsNaN(r.mean.Float64):
		return picture{}, dead(BadScore, "%d ratings are not numbers from 1 to 10", r.bad)
	case !ok:
		return picture{}, dead(BadPrompt, "prompt %.100q", r.prompt.String)
	case r.path.String == "":
		return picture{}, dead(NoPictureName, "picture %d has no path", r.id.Int64)
	}
	id := strconv.FormatInt(r.id.Int64, 10)
	return picture{id: "sac/" + id, name: r.path.String, prompt: text, score: r.mean.Float64, votes: r.votes}, death{}
}
