// Package embedded trains small ONNX graphs in the process, on ONNX Runtime and without any other framework. Package tune
// below it trains whole models with it, as the backend of this name.
//
//	p, err := embedded.NewParams(nil, forward)
//	g, err := embedded.Compile(forward, "loss", p, example, 1)
//	for p.Steps() < schedule.Steps {
//		values, err := g.Run(ctx, feeds) // adds to the gradients
//		norm := p.Step(optimiser, schedule.Rate(p.Steps()))
//	}
//	err = p.Store(inference)
//
// # Design
//
// Compile turns the graph of a loss into one that computes the gradients too, all in standard operators, so that
// every provider of ONNX Runtime can run it. The weights are inputs of that graph and the gradients are written
// where Params has them: graphs of other shapes, or of other parts of a model, train the same weights and nothing is
// copied. The optimiser is Go; it takes a few hundredths of the time of a step.
//
// Shapes are fixed when a graph is compiled, from one run of the forward graph: a graph for each batch shape.
// Everything is bit-reproducible on one type of CPU with the same number of threads.
package embedded
