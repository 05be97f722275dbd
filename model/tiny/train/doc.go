// Package train makes the tiny models: tokenizer, text-to-image model and the vision-language model, from nothing but the
// real prompts that come with promptmill and the pictures of package scene.
//
// # Design
//
// A training run is a function of its configuration: seeds are fixed, chance comes from one generator, sums are made on
// one thread. On CPUs of one type it gives the same bits every time; on others the last bits of sums differ, and what was
// measured holds.
//
// The graphs are built twice from one description: once for training, ending in a loss, once for use, in the layouts
// that published models have. Weights go from one to the other by name.
package train
