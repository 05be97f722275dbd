// Package vlm runs vision-language models in process: a folder of ONNX graphs goes in, a model.Chat comes out.
//
// The folder has the layout of the onnx-community exports: vision_encoder.onnx, embed_tokens.onnx and
// decoder_model_merged.onnx, beside them or one folder up the configuration files of Hugging Face's transformers.
//
// # Design
//
// A request becomes token ids (chat template, tokenizer, places for the pictures) in the goroutine that asks; its
// pictures are encoded there too, and what they gave is kept, because a judge sees the same picture many times. Then it
// waits in one queue per model. A few lanes, a goroutine each, take requests from it, read the prompts (the n answers of
// a request share that) and write answers token by token.
//
// Only rows of one length go through the decoder together, so there is nothing to fill up and nothing to mask: ONNX
// Runtime on a CPU gives a row the same bits in a batch of any size, but not in one that is padded to another length,
// and attention operators differ in what they take for a mask. A lane holds cohorts of rows. It moves the shortest
// first; when that reaches the length of another the two become one batch. So a request joins those that are running
// some steps after it came, and its rows leave when they end. New requests are taken when half of a lane is free, because
// joining costs steps at a small batch, or when those that run have only begun. A lane that is idle gives requests that are
// being made a moment, so that those of one time are one batch from the start.
//
// The cache of keys and values that a step returns is the next step's input as it is; it is copied only when rows
// share a prompt, leave or join.
//
// Pictures are prepared as Pillow does, with its fixed-point resampling.
//
// What a request leaves open comes from generation_config.json as far as it is a limit (end tokens, length). How
// tokens are drawn the request alone says.
package vlm
