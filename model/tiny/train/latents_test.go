package train_test

import (
	"math"
	"testing"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tiny/train"
)

func TestLatentsHoldThePicture(t *testing.T) {
	var pictures []*scene.Image
	for i, p := range []string{"a red cat, 8k", "castle at night, fog", "portrait of a woman, colorful", "robot, sharp focus", "planet", "a green tree, neon"} {
		for seed := range int64(20) {
			pictures = append(pictures, scene.Draw(p, seed+int64(100*i)))
		}
	}
	c := train.NewCodec(pictures)
	if c.Explained < .99 || c.Explained > 1 {
		t.Errorf("the components explain %.4f of the variance", c.Explained)
	}
	img := pictures[7]
	z := make([]float32, 48*16)
	c.Latents(img, z)
	var err, all float64
	for p := range 16 {
		for i, m := range c.Mean {
			x := float64(m)
			for k := range 48 {
				x += float64(z[k*16+p]) / .3 * float64(c.Decode[k*192+i])
			}
			y, col := p/4*8+i/24, p%4*8+i/3%8
			v := float64(img[3*(y*32+col)+i%3])
			err += (x - v) * (x - v)
			all += (v - float64(m)) * (v - float64(m))
		}
	}
	if share := err / all; share > .02 {
		t.Errorf("decoding loses %.4f of the picture", share)
	}
	var mean, square float64
	for _, img := range pictures {
		c.Latents(img, z)
		for _, v := range z {
			mean += float64(v) / float64(len(z)*len(pictures))
			square += float64(v*v) / float64(len(z)*len(pictures))
		}
	}
	if math.Abs(math.Sqrt(square)-.3) > .001 || math.Abs(mean) > .01 {
		t.Errorf("latents have mean %.3f and root mean square %.4f, want 0 and .3", mean, math.Sqrt(square))
	}
}
