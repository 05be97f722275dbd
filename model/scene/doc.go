// Package scene is a procedural world that stands in for pretrained models: a renderer that turns any
// prompt into a 32x32 picture, published pixel statistics that measure such a picture (the oracle),
// and behind the model contracts a rewriter, a judge and a scorer made of the two.
//
// Nothing here is learned. A prompt's first comma segment names the subject (one of 12 silhouettes in
// a hue), known modifiers move a style of 13 dimensions with gains that depend on the subject's
// category, and above five modifiers the subject fades and clutter grows, so that appending
// everything is not the best rewriting. The judge knows the pictures' statistics: it is the oracle
// with noise, close to the truth by construction, and no evidence of what a trained judge can do. It
// is the default until trained models take its place; it stays the oracle that measures results, the
// teacher of the demo and the source of training pictures.
//
// The backend is registered as "scene". Its rewriter answers any conversation without pictures by
// appending modifiers with the frequencies of real prompts; its judge answers conversations with two
// pictures, about the pictures or about two answers on them. All of it is deterministic.
//
// # Design
//
// A [State] is a function of the text alone and a [Layout] of the seed alone, so two prompts drawn
// with one seed differ by their words only. [Measure] is a function of the picture alone, so a
// picture that appears in many requests is measured once; a text only selects from it.
//
// Modifiers are found wherever their letters stand, inside words too (a knight is a little dark, for
// the "night" in it): every prompt has some style, as in the trial that fixed the tables.
package scene
