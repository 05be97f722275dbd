package scene

import "strings"

// A Category is what the subject of a prompt is drawn as.
type Category int

// The categories. Thing is the subject of a prompt that names none of the others.
const (
	Person Category = iota
	City
	Mountain
	Tree
	Animal
	Vehicle
	Robot
	House
	Flower
	Planet
	Monster
	Thing

	// Categories is how many there are.
	Categories = 12
)

// String is the category's name, lower case.
func (c Category) String() string { return kinds[c].name }

// A Style is a point in the space that modifiers move in. The dimensions, in order: saturation,
// contrast, detail, sharpness, brightness, warmth, glow, symmetry, clutter, fade, monochrome, scale,
// fantasy.
type Style [13]float64

// The dimensions of a Style: short, because the tables below are read by row.
const (
	sat = iota
	con
	det
	sharp
	bri
	warm
	glow
	sym
	clut
	fade
	mono
	scale
	fantasy
)

// kinds are the categories: name, hue in degrees of a subject without a colour word, and the words
// that name it.
var kinds = [Categories]struct {
	name  string
	hue   float64
	words string
}{
	Person:   {"person", 25, "portrait woman man girl boy female male goddess warrior princess queen king knight wizard witch elf samurai face selfie model human actor bust mage soldier vampire ninja batman hero person people guy lady figure hair"},
	City:     {"city", 215, "city street building skyline skyscraper tower architecture town village interior room hall bridge station road library shop subway restaurant office"},
	Mountain: {"mountain", 135, "landscape mountain mountains valley desert canyon hill hills cliff river lake beach field island horizon snow volcano cave waterfall ocean sea wave underwater"},
	Tree:     {"tree", 110, "tree trees forest jungle garden woods swamp bamboo leaf leaves mushroom moss plant plants"},
	Animal:   {"animal", 35, "cat dog animal fox lion bear wolf frog bird mouse horse pig rabbit owl tiger furry fish shark dinosaur panda duck cow monkey kitten elephant corgi penguin"},
	Vehicle:  {"vehicle", 0, "car ship spaceship boat train truck vehicle motorcycle airplane plane tank bike bus submarine rocket spacecraft"},
	Robot:    {"robot", 190, "robot cyborg mech android astronaut machine cyber cybernetic robotic iron armor mask helmet"},
	House:    {"house", 20, "castle house temple church palace cottage mansion cathedral ruins cabin hut tent statue monument"},
	Flower:   {"flower", 320, "flower flowers rose lotus food cake fruit pizza apple sushi burger bread cheese coffee candy bouquet"},
	Planet:   {"planet", 260, "planet space moon sun galaxy star stars universe earth cosmos nebula world mars sphere orb eye clock"},
	Monster:  {"monster", 280, "dragon monster creature demon alien zombie skull ghost skeleton godzilla cthulhu beast devil evil fire explosion hell spider"},
	Thing:    {"thing", 0, ""}, // its hue is a hash of the text
}

// wordCategory says which category a word names.
var wordCategory = func() map[string]Category {
	m := map[string]Category{}
	for c, k := range kinds {
		for w := range strings.FieldsSeq(k.words) {
			m[w] = Category(c)
		}
	}
	return m
}()

// colours are the hues of colour words in degrees.
var colours = map[string]float64{
	"red": 0, "orange": 28, "yellow": 52, "golden": 45, "gold": 45, "green": 120, "emerald": 140,
	"turquoise": 175, "cyan": 185, "blue": 220, "purple": 275, "violet": 275, "pink": 325,
	"magenta": 305, "brown": 22, "crimson": 350, "teal": 175,
}

// base is the style of a prompt without modifiers; lowest and highest bound what they can do.
var (
	base    = Style{sat: .30, con: .30, det: .05, sharp: .30, bri: .50, glow: .10, sym: .25, fade: .10, scale: .5}
	lowest  = Style{con: .04, bri: .18, warm: -.6, scale: .25}
	highest = Style{1, 1, .6, 1, .82, .6, .8, 1, .7, .75, 1, .85, .8}
)

// offsets is what a category adds to the base style.
var offsets = [Categories]Style{
	Person:   {sat: -.06, det: .08},
	City:     {con: .06, det: .16, clut: .06},
	Mountain: {sat: .05, warm: .05, fade: .08},
	Tree:     {sat: .05, det: .12},
	Animal:   {sharp: .05, bri: .05},
	Vehicle:  {con: .10, sharp: .12},
	Robot:    {sat: -.10, con: .12},
	House:    {warm: .06},
	Flower:   {sat: .22, bri: .05},
	Planet:   {con: .10, bri: -.16, sym: .2},
	Monster:  {sat: .05, bri: -.12, clut: .08},
}

// gains is how strongly each dimension of a modifier acts on each category: why the best modifiers
// for a portrait are not those for a planet. The numbers were drawn once at random, mean 1, standard
// deviation .35, cut to .4 and 1.8; they are constants of this world.
var gains = [Categories]Style{
	//        sat    con    det    sharp  bri    warm   glow   sym    clut   fade   mono   scale  fantasy
	Person:   {1.592, 0.837, 1.011, 1.143, 0.724, 1.001, 1.000, 0.400, 1.356, 1.210, 0.781, 0.940, 1.177},
	City:     {0.909, 0.915, 0.491, 1.194, 1.043, 1.096, 0.466, 1.578, 1.054, 0.865, 1.710, 0.984, 0.492},
	Mountain: {0.858, 0.400, 1.367, 0.854, 0.740, 1.375, 0.422, 1.187, 0.400, 0.768, 0.579, 1.512, 1.618},
	Tree:     {0.885, 1.294, 0.937, 1.199, 0.737, 0.402, 0.400, 1.134, 1.787, 1.094, 0.816, 1.669, 1.083},
	Animal:   {1.036, 1.088, 0.954, 0.892, 0.498, 1.176, 0.967, 1.418, 0.871, 0.400, 0.965, 1.595, 0.866},
	Vehicle:  {0.689, 0.582, 0.632, 0.895, 0.587, 1.524, 0.901, 1.038, 1.503, 1.526, 0.926, 1.116, 1.257},
	Robot:    {0.933, 0.400, 1.229, 1.313, 1.145, 0.677, 0.931, 0.793, 0.895, 1.454, 1.535, 1.234, 1.192},
	House:    {1.237, 0.996, 0.974, 0.764, 0.980, 1.791, 1.304, 0.880, 0.835, 0.697, 1.131, 1.137, 0.495},
	Flower:   {1.170, 0.801, 1.499, 1.055, 1.601, 0.840, 0.899, 1.105, 1.370, 1.198, 0.568, 1.064, 1.008},
	Planet:   {0.850, 0.773, 1.612, 0.863, 0.704, 1.223, 1.046, 0.973, 1.273, 1.171, 1.127, 1.337, 1.099},
	Monster:  {0.784, 0.873, 0.818, 1.073, 0.623, 0.400, 1.031, 0.532, 0.400, 1.131, 0.751, 1.174, 0.814},
	Thing:    {0.607, 0.565, 0.820, 0.904, 0.712, 0.902, 0.462, 1.005, 0.400, 0.932, 1.244, 1.382, 1.600},
}
