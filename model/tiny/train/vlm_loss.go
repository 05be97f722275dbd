package train

import (
	"fmt"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/scene"
)

// auxiliary is the weight of the statistics' loss beside the text's.
const auxiliary = .3

// ignored marks targets that do not count.
const ignored = -100

// textLoss is the graph of the mean negative log-likelihood of the answers, for batch rows with a prompt of prompt tokens and
// an answer of answer tokens, the end included:
//
//	ids [batch, prompt+answer-1], targets [batch, answer] -> loss [1]
//
// With pictures, two a row stand before the prompt's last token, and the tower still learns the statistics:
//
//	pixels [2*batch, 3, 32, 32], statistics [2*batch, Statistics] -> text [1], picture [1], loss [1]
func textLoss(w vlmWeights, batch, prompt, answer int, pictures bool) *onnxfile.Model {
	n := newNet(w)
	length := prompt + answer - 1
	x := n.embed(n.Input("ids", onnxfile.Int64, batch, length))
	var seen string
	if pictures {
		seen = n.tower(n.Input("pixels", onnxfile.Float, 2*batch, 3, scene.Side, scene.Side), n.Ints(int64(2*batch), pictureTokens, vlmWidth))
		tokens := n.op("Reshape", n.project(seen), n.Ints(int64(batch), 2*pictureTokens, vlmWidth))
		from, to := int64(prompt-1-2*pictureTokens), int64(prompt-1)
		x = n.Op("Concat", []string{
			n.op("Slice", x, n.Ints(0), n.Ints(from), n.Ints(1)), tokens, n.op("Slice", x, n.Ints(to), n.Ints(int64(length)), n.Ints(1)),
		}, build.Int("axis", 1))
	}
	x = n.op("Add", x, n.place(length))
	bias := n.causal(length)
	for i := range vlmLayers {
		x, _ = n.block(x, fmt.Sprintf("decoder.%d", i), bias, nil)
	}
	logits := n.head(n.op("Slice", x, n.Ints(int64(prompt-1)), n.Ints(int64(length)), n.Ints(1)))
	n.Output("logits", logits, onnxfile.Float, batch, answer, Vocabulary)
	text := n.crossEntropy(logits, n.Input("targets", onnxfile.Int64, batch, answer))
	if !pictures {
		n.Output("loss", text, onnxfile.Float, 1)
		return n.Model()
	}
	picture := n.statisticsLoss(seen, 2*batch)
	n.Output("text", text, onnxfile.Float, 1)
	n.Output("picture", picture, onnxfile.Float, 1)
	n.Output("loss", n.op("Add", text, n.op("Mul", picture, n.Floats(auxiliary))), onnxfile.Float, 1)
	return n.Model()
}

// towerLoss is the graph of the mean squared error of the statistics that the tower tells:
//
//	pixels [batch, 3, 32, 32], statistics [batch, Statistics] -> loss [1], told [batch, Statistics]
func towerLoss(w vlmWeights, batch int) *onnxfile.Model {
	n := newNet(w)
	seen := n.tower(n.Input("pixels", onnxfile.Float, batch, 3, scene.Side, scene.Side), n.Ints(int64(batch), pictureTokens, vlmWidth))
	n.Output("loss", n.statisticsLoss(seen, batch), onnxfile.Float, 1)
	return n.Model()
}

func (n *net) statisticsLoss(seen string, batch int) string {
	told := n.linear(n.op("Reshape", seen, n.Ints(int64(batch), pictureTokens*vlmWidth)), "vision.statistics")
	n.Output("told", told, onnxfile.Float, batch, Statistics)
	miss := n.op("Sub", told, n.Input("statistics", onnxfile.Float, batch, Statistics))
	return n.op("Reshape", n.Op("ReduceMean", []string{n.op("Mul", miss, miss)}, build.Int("keepdims", 0)), n.Ints(1))
}

func (n *net) crossEntropy(logits, targets string) string {
	loss := n.Op("SoftmaxCrossEntropyLoss", []string{
		n.op("Reshape", logits, n.Ints(-1, Vocabulary)), n.op("Reshape", targets, n.Ints(-1)),
	}, build.Int("ignore_index", ignored), build.String("reduction", "mean"))
	return n.op("Reshape", loss, n.Ints(1))
}

// place is the meaning of the first length positions: one of its own, and one that it shares with others a period away, so
// that what is learned in short prompts holds in long ones.
func (n *net) place(length int) string {
	var ids []int64
	for i := range length {
		ids = append(ids, int64(i%vlmPeriod))
	}
	shared := n.op("Gather", n.param("period"), n.Ints(ids...))
	return n.op("Add", n.op("Slice", n.param("position"), n.Ints(0), n.Ints(int64(length)), n.Ints(0)), shared)
}
