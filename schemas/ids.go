package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// hashID is the first 128 bits of the SHA-256 of its parts, each preceded by its length, as 32 hex
// digits: no two lists of parts share an encoding, and 2^64 rows are needed for a likely collision.
func hashID(parts ...string) string {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// PromptID is the content hash of a prompt's text.
func PromptID(text string) string { return hashID("prompt", text) }

// PairID is the content hash of a rewrite pair.
func PairID(raw, rewritten string) string { return hashID("pair", raw, rewritten) }

// CandidateID is the content hash of a candidate: equal texts for one prompt are one candidate.
func CandidateID(promptID, text string) string { return hashID("candidate", promptID, text) }

// JudgmentID is the content hash of a judgment's place: sample counts from 0 within the aspect.
func JudgmentID(promptID, candidateID, aspect string, sample int32) string {
	return hashID("judgment", promptID, candidateID, aspect, strconv.Itoa(int(sample)))
}

// PreferenceID is the content hash of a preference pair.
func PreferenceID(kind, promptID string, chosen, rejected []Message) string {
	parts := appendMessages([]string{"preference", kind, promptID}, chosen)
	return hashID(appendMessages(parts, rejected)...)
}

// JudgmentPairID is the content hash of a pair of judgments, of what they are about (which their IDs say) and
// what they say: the same two texts are another pair about another candidate.
func JudgmentPairID(chosenID, rejectedID string, chosen, rejected []Message) string {
	parts := appendMessages([]string{"judgment pair", chosenID, rejectedID}, chosen)
	return hashID(appendMessages(parts, rejected)...)
}

// ExampleID is the content hash of a supervised example, with the pictures it embeds if any.
func ExampleID(task string, messages []Message, images ...Image) string {
	parts := appendMessages([]string{"example", task}, messages)
	return hashID(appendImages(parts, images)...)
}

func appendMessages(parts []string, messages []Message) []string {
	parts = append(parts, strconv.Itoa(len(messages)))
	for _, m := range messages {
		parts = append(parts, m.Role, m.Content)
	}
	return parts
}

func appendImages(parts []string, images []Image) []string {
	for _, m := range images {
		sum := sha256.Sum256(m.Bytes)
		parts = append(parts, string(sum[:]))
	}
	return parts
}

// Rank orders rows by SHA-256(seed, id): the same seed gives the same order on any machine, and
// the first k rows of a set by Rank are a uniform sample of it that grows with k (10k within 20k).
func Rank(seed int64, id string) uint64 {
	return hash64("rank", seed, id, 0)
}

// Permille puts a key in one of 1000 parts, 0 to 999, uniformly and independently of its Rank: a
// split of a data set is a range of them.
func Permille(seed int64, key string) int {
	return int(hash64("split", seed, key, 0) % 1000)
}

// Seed derives a model seed from (run seed, stage, row id, index): in [0, 2^31), with room for a
// server to add the index of a choice to it and for backends that keep 32 bits only.
func Seed(runSeed int64, stage, id string, index int) int64 {
	return int64(hash64(stage, runSeed, id, index) % (1<<31 - 1<<10))
}

func hash64(stage string, seed int64, id string, index int) uint64 {
	h := sha256.New()
	var n [24]byte
	binary.BigEndian.PutUint64(n[:], uint64(seed))
	binary.BigEndian.PutUint64(n[8:], uint64(index))
	binary.BigEndian.PutUint64(n[16:], uint64(len(stage)))
	h.Write(n[:])
	h.Write([]byte(stage))
	h.Write([]byte(id))
	return binary.BigEndian.Uint64(h.Sum(nil))
}
