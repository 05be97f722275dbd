package judgment

import (
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/embed"
	"github.com/promptmill/promptmill/transforms/parquetio"
)

func init() {
	parquetio.Register[Item]()
	parquetio.Register[schemas.JudgmentExample]()
	embed.Register[Item, schemas.JudgmentExample]()
}

// An Item is a JudgmentExample that names its pictures instead of holding them.
type Item struct {
	// The fields of schemas.JudgmentExample.
	ID              string            `json:"id" parquet:"id,optional,zstd"`
	Group           string            `json:"group" parquet:"group,optional,zstd"`
	FactID          string            `json:"fact_id" parquet:"fact_id,optional,zstd"`
	Source          string            `json:"source" parquet:"source,optional,dict,zstd"`
	Aspect          string            `json:"aspect" parquet:"aspect,optional,dict,zstd"`
	FactSource      string            `json:"fact_source" parquet:"fact_source,optional,dict,zstd"`
	StandardID      string            `json:"standard_id" parquet:"standard_id,optional,zstd"`
	IrrelevantID    string            `json:"irrelevant_id" parquet:"irrelevant_id,optional,zstd"`
	Messages        []schemas.Message `json:"messages" parquet:"messages,optional,list" parquet-element:",optional"`
	Standard        string            `json:"standard" parquet:"standard,optional,dict,zstd"`
	StandardScore   float64           `json:"standard_score" parquet:"standard_score,optional"`
	IrrelevantScore float64           `json:"irrelevant_score" parquet:"irrelevant_score,optional"`
	Score1          float64           `json:"score1" parquet:"score1,optional"`
	Score2          float64           `json:"score2" parquet:"score2,optional"`
	Attempt         int32             `json:"attempt" parquet:"attempt,optional"`
	Template        string            `json:"template" parquet:"template,optional,dict,zstd"`
	Teacher         string            `json:"teacher" parquet:"teacher,optional,dict,zstd"`
	// Image1 and Image2 are the pictures in the order in which they were shown.
	Image1 schemas.ImageRef `json:"image1" parquet:"image1,optional"`
	Image2 schemas.ImageRef `json:"image2" parquet:"image2,optional"`
}

// RowKey is the fact: items ascend by its rank, as the evaluations that they come from.
func (it Item) RowKey() string { return it.FactID }

// RowTie is the item's ID.
func (it Item) RowTie() string { return it.ID }

// Validate wants what schemas.JudgmentExample wants.
func (it Item) Validate() error {
	unread := schemas.Image{Bytes: []byte{0}, Path: "not read yet"}
	return it.WithPictures(unread, unread).Validate()
}

// Pictures are those of the item, in the order in which they were shown.
func (it Item) Pictures() (first, second schemas.ImageRef) { return it.Image1, it.Image2 }

// WithPictures is the row of the set.
func (it Item) WithPictures(first, second schemas.Image) schemas.JudgmentExample {
	return schemas.JudgmentExample{
		ID: it.ID, Group: it.Group, FactID: it.FactID, Source: it.Source, Aspect: it.Aspect, FactSource: it.FactSource,
		StandardID: it.StandardID, IrrelevantID: it.IrrelevantID, Messages: it.Messages, Images: []schemas.Image{first, second},
		Standard: it.Standard, StandardScore: it.StandardScore, IrrelevantScore: it.IrrelevantScore,
		Score1: it.Score1, Score2: it.Score2, Attempt: it.Attempt, Template: it.Template, Teacher: it.Teacher,
	}
}

// item is what is kept of a judgment.
func (fn *judgeFn) item(p Pair, standard string, better, worse float64, text string, attempt int) Item {
	messages, id := question(fn.Config.Stored, p, standard)
	messages = append(messages, schemas.Message{Role: schemas.RoleAssistant, Content: text})
	s := p.Standard
	return Item{
		ID:    schemas.VisionID(schemas.TaskJudgment, messages, s.Image1.SHA256, s.Image2.SHA256),
		Group: s.Group, FactID: s.FactID, Source: s.Source, Aspect: s.Aspect, FactSource: s.FactSource,
		StandardID: s.ID, IrrelevantID: p.Irrelevant.ID, Messages: messages, Standard: standard,
		StandardScore: better, IrrelevantScore: worse, Score1: s.Score1, Score2: s.Score2,
		Attempt: int32(attempt), Template: id, Teacher: fn.desk.Asker.Weights(), Image1: s.Image1, Image2: s.Image2,
	}
}
