package responselog

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/promptmill/promptmill/model"
)

// Scores returns inner with log before it: requests whose score the log has are not sent, the others
// are, as one batch, and are stored before they are returned.
func Scores(inner model.Scorer, log *Log) *ScoreLog { return &ScoreLog{inner, log} }

// A ScoreLog is a model.Scorer that remembers.
type ScoreLog struct {
	inner model.Scorer
	log   *Log
}

// Info is that of the scorer behind.
func (s *ScoreLog) Info() model.Info { return s.inner.Info() }

// Score is as model.Scorer says.
func (s *ScoreLog) Score(ctx context.Context, reqs []model.ScoreRequest) ([]float64, error) {
	scores, _, err := s.ScoreUsage(ctx, reqs)
	return scores, err
}

// ScoreUsage is Score, and says how many of the requests were scored now (Calls) and how many came from
// the log (CacheHits). Equal requests of a batch are scored once.
func (s *ScoreLog) ScoreUsage(ctx context.Context, reqs []model.ScoreRequest) ([]float64, model.Usage, error) {
	info := s.inner.Info()
	scores := make([]float64, len(reqs))
	// where has, for each slot not scored yet, the requests that want it.
	where := make(map[slot][]int, len(reqs))
	var wanted []slot
	for i, req := range reqs {
		k, err := scoreKey(info, req)
		if err != nil {
			return nil, model.Usage{}, err
		}
		at := slot{key: k}
		if where[at] == nil {
			wanted = append(wanted, at)
		}
		where[at] = append(where[at], i)
	}
	settled := func(at slot, score float64) {
		for _, i := range where[at] {
			scores[i] = score
		}
		delete(where, at)
	}
	read := func() ([]slot, error) {
		var missing []slot
		for _, at := range wanted {
			if where[at] == nil {
				continue
			}
			err := s.log.read(ctx, at.key, 0, 1, func(r record) (bool, error) {
				if len(r.payload) != 8 {
					return false, errDamaged
				}
				settled(at, math.Float64frombits(binary.LittleEndian.Uint64(r.payload)))
				return true, nil
			})
			if err != nil {
				return nil, err
			}
			if where[at] != nil {
				missing = append(missing, at)
			}
		}
		return missing, nil
	}
	var usage model.Usage
	ask := func(due []slot) error {
		batch := make([]model.ScoreRequest, len(due))
		for i, at := range due {
			batch[i] = reqs[where[at][0]]
		}
		got, err := s.inner.Score(ctx, batch)
		if err != nil {
			return err
		}
		if len(got) != len(batch) {
			return fmt.Errorf("response log: %s gave %d scores to %d requests", info.Name, len(got), len(batch))
		}
		usage.Calls += len(batch)
		for i, at := range due {
			payload := binary.LittleEndian.AppendUint64(nil, math.Float64bits(got[i]))
			if err := s.log.append(ctx, at.key, 0, 1, payload); err != nil {
				return err
			}
			settled(at, got[i])
		}
		return nil
	}
	if err := s.log.settle(ctx, read, ask); err != nil {
		return nil, usage, err
	}
	usage.CacheHits = len(reqs) - usage.Calls
	s.log.hits.Add(int64(usage.CacheHits))
	return scores, usage, nil
}
