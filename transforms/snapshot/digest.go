package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/promptmill/promptmill/schemas"
)

// Digest identifies the rows of shards, by configuration and as a whole: a configuration's is the
// SHA-256 of its name, schema digest, number of rows and the sum modulo 2^256 of its rows' hashes; the
// whole is the SHA-256 of these, sorted by name. It does not depend on the order of the rows, on how
// they are cut into shards, nor on names, splits, times, run ids or the version of the code.
//
// Configurations in skip, the dead letters, and those without a row do not enter: whether an empty
// file was written is an accident of the cutting. The error joins the shards whose sums do not parse
// and the configurations whose shards differ in schema.
func Digest(shards []schemas.Shard, skip ...string) (whole string, byConfig map[string]string, err error) {
	type config struct {
		schema string
		rows   int64
		sum    schemas.Sum
	}
	configs := map[string]*config{}
	var errs []error
	for _, s := range shards {
		if s.Rows == 0 {
			continue
		}
		c := configs[s.Config]
		if c == nil {
			c = &config{schema: s.Schema}
			configs[s.Config] = c
		}
		if c.schema != s.Schema {
			errs = append(errs, fmt.Errorf("shard %s: schema %s, other shards of configuration %s have %s", s.Object, s.Schema, s.Config, c.schema))
		}
		sum, err := schemas.ParseSum(s.RowSum)
		if err != nil {
			errs = append(errs, fmt.Errorf("shard %s: %w", s.Object, err))
		}
		c.rows += s.Rows
		c.sum.Add(sum)
	}
	if err := errors.Join(errs...); err != nil {
		return "", nil, err
	}
	byConfig = map[string]string{}
	all := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		if name == Rejected || slices.Contains(skip, name) {
			continue
		}
		c := configs[name]
		one := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %s\n", name, c.schema, c.rows, c.sum))
		byConfig[name] = hex.EncodeToString(one[:])
		fmt.Fprintf(all, "%s\n", byConfig[name])
	}
	return hex.EncodeToString(all.Sum(nil)), byConfig, nil
}
