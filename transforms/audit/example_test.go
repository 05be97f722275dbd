package audit_test

import (
	"fmt"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/audit"
)

func ExampleSummarise() {
	used := func(reason string, n int64) schemas.Count {
		return schemas.Count{Stage: audit.Stage, Outcome: schemas.Used, Reason: reason, N: n}
	}
	r := audit.Summarise([]schemas.Count{
		used("read/pick", 10), used("order/pick/same", 7), used("order/pick/image_1", 3),
		used("lead/pick/test/first/1000", 6), used("lead/pick/test/second/1000", 2), used("lead/pick/test/tie/0", 2),
	}, "validation")
	fmt.Println(r.Aspects[0].Orders.FlipRate, r.Aspects[0].Agreement[0].Accuracy)
	// Output: 0.3 0.8
}
