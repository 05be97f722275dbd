package teacher

import (
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/embed"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	parquetio.Register[Item]()
	parquetio.Register[schemas.Evaluation]()
	embed.Register[Item, schemas.Evaluation]()
}

// An Item is an Evaluation that names its pictures instead of holding them: what is handed on until the last
// shard is written, and what judgments are made from.
type Item struct {
	// The fields of schemas.Evaluation.
	ID         string            `json:"id" parquet:"id,optional,zstd"`
	Group      string            `json:"group" parquet:"group,optional,zstd"`
	FactID     string            `json:"fact_id" parquet:"fact_id,optional,zstd"`
	Source     string            `json:"source" parquet:"source,optional,dict,zstd"`
	Aspect     string            `json:"aspect" parquet:"aspect,optional,dict,zstd"`
	Preference string            `json:"preference" parquet:"preference,optional,dict,zstd"`
	FactSource string            `json:"fact_source" parquet:"fact_source,optional,dict,zstd"`
	Messages   []schemas.Message `json:"messages" parquet:"messages,optional,list" parquet-element:",optional"`
	Order      string            `json:"order" parquet:"order,optional,dict,zstd"`
	Score1     float64           `json:"score1" parquet:"score1,optional"`
	Score2     float64           `json:"score2" parquet:"score2,optional"`
	Attempt    int32             `json:"attempt" parquet:"attempt,optional"`
	Template   string            `json:"template" parquet:"template,optional,dict,zstd"`
	Teacher    string            `json:"teacher" parquet:"teacher,optional,dict,zstd"`
	// Prompt is the fact's, Image1 and Image2 the pictures in the order in which they were shown.
	Prompt string           `json:"prompt" parquet:"prompt,optional,zstd"`
	Image1 schemas.ImageRef `json:"image1" parquet:"image1,optional"`
	Image2 schemas.ImageRef `json:"image2" parquet:"image2,optional"`
}

// RowKey is the fact: items ascend by its rank, as facts are chosen.
func (it Item) RowKey() string { return it.FactID }

// RowTie is the item's ID.
func (it Item) RowTie() string { return it.ID }

// Answer is the teacher's text.
func (it Item) Answer() string { return it.Messages[len(it.Messages)-1].Content }

// Validate wants what schemas.Evaluation wants.
func (it Item) Validate() error {
	unread := schemas.Image{Bytes: []byte{0}, Path: "not read yet"}
	return it.WithPictures(unread, unread).Validate()
}

// Pictures are those of the item, in the order in which they were shown.
func (it Item) Pictures() (first, second schemas.ImageRef) { return it.Image1, it.Image2 }

// WithPictures is the row of the set.
func (it Item) WithPictures(first, second schemas.Image) schemas.Evaluation {
	return schemas.Evaluation{
		ID: it.ID, Group: it.Group, FactID: it.FactID, Source: it.Source, Aspect: it.Aspect, Preference: it.Preference,
		FactSource: it.FactSource, Messages: it.Messages, Images: []schemas.Image{first, second}, Order: it.Order,
		Score1: it.Score1, Score2: it.Score2, Attempt: it.Attempt, Template: it.Template, Teacher: it.Teacher,
	}
}

// NewItem is what is kept of an answer about a fact's pictures in an order: asked is the question that stands in the
// row, teacher the weights of the model that gave it.
func NewItem(f schemas.Fact, order string, asked template.Template, r judge.Reply, attempt int, teacher string) Item {
	first, second := shown(f, order)
	messages := append(asked.Messages(f.Prompt), schemas.Message{Role: schemas.RoleAssistant, Content: r.Text})
	return Item{
		ID:    schemas.VisionID(schemas.TaskEvaluation, messages, first.SHA256, second.SHA256),
		Group: f.Group, FactID: f.ID, Source: f.Source, Aspect: f.Aspect, Preference: f.Preference, FactSource: f.FactSource,
		Messages: messages, Order: order, Score1: r.Scores.First, Score2: r.Scores.Second, Attempt: int32(attempt),
		Template: asked.ID, Teacher: teacher, Prompt: f.Prompt, Image1: first, Image2: second,
	}
}

func (fn *teachFn) item(f schemas.Fact, order string, r judge.Reply, attempt int) Item {
	stored, _ := fn.Config.Stored.Task(f.Aspect) // Validate saw to it
	return NewItem(f, order, stored, r, attempt, fn.desk.Asker.Weights())
}
