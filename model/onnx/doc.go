// Package onnx runs ONNX models on ONNX Runtime.
//
// A Session is a model that is ready to run; a Tensor is an array in memory that the runtime may read and write.
// ONNX Runtime is a C++ library that no Go module carries: Start finds it, Install fetches it.
//
// # Design
//
// A model file comes from outsiders and the runtime is C++, so package onnxfile reads and checks every file first, and
// every tensor is compared with the input it goes to before the runtime sees it: a fault is an error here that names the
// input, its type and its shape. Names, types and shapes come from the file; nothing is assumed of a model.
//
// Sessions use one thread unless told otherwise: promptmill runs many requests at a time, and one thread adds up
// numbers in one order, so that equal inputs give equal bits.
package onnx
