package tiny_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tiny"
)

// TestMain keeps the files that are written out of the user's cache.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tiny")
	if err == nil {
		err = os.Setenv("XDG_CACHE_HOME", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func openImages(t *testing.T) model.Images {
	t.Helper()
	onnxtest.NeedLibrary(t)
	m, err := model.OpenImages(t.Context(), model.Spec{Backend: "tiny"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestImages(t *testing.T) {
	modeltest.RunImages(t, openImages, modeltest.ImageCaps{Width: 32, Height: 32, Steps: 5, Seeds: true})
}

// TestPicturesFollowTheirText looks for the subject that was asked for: by chance one of twelve is right.
func TestPicturesFollowTheirText(t *testing.T) {
	m := openImages(t)
	subjects := map[scene.Category]string{
		scene.City: "a city street", scene.Mountain: "a mountain", scene.Tree: "a tree", scene.Animal: "a cat", scene.Vehicle: "a car",
		scene.Robot: "a robot", scene.House: "a house", scene.Flower: "a rose", scene.Planet: "a planet", scene.Person: "portrait of a woman",
		scene.Monster: "a dragon",
	}
	const seeds = 3
	var group errgroup.Group
	right := make(chan bool, seeds*len(subjects))
	for kind, prompt := range subjects {
		for seed := range int64(seeds) {
			group.Go(func() error {
				r, err := m.Draw(t.Context(), model.ImageRequest{Prompt: prompt, Width: 32, Height: 32, Steps: 20, Guidance: 2, Seed: seed})
				if err != nil {
					return err
				}
				img, err := scene.Decode(r.Data)
				if err != nil {
					return err
				}
				right <- scene.Measure(img).Seen() == kind
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	close(right)
	n, all := 0, 0
	for ok := range right {
		all++
		if ok {
			n++
		}
	}
	if n < all/2 {
		t.Errorf("%d of %d pictures show what was asked for, want half", n, all)
	}
}

func TestFolderMendsItself(t *testing.T) {
	folder, err := tiny.Folder(tiny.T2I)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "unet", "model.onnx")
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"cut":  func() error { return os.Truncate(file, 100) },
		"gone": func() error { return os.RemoveAll(filepath.Dir(file)) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		again, err := tiny.Folder(tiny.T2I)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if again != folder || err != nil || string(got) != string(want) {
			t.Errorf("%s: folder %s, %d bytes, %v; want %s and %d bytes", name, again, len(got), err, folder, len(want))
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(folder), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if _, err := tiny.Folder("giant"); err == nil {
		t.Error("there is a model giant")
	}
}

func TestUnknownModels(t *testing.T) {
	for _, spec := range []model.Spec{
		{Backend: "tiny", Model: "giant"},
		{Backend: "tiny", Options: map[string]string{"speed": "10"}},
	} {
		if _, err := model.OpenImages(t.Context(), spec); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%+v: %v, want ErrConfig", spec, err)
		}
		if _, err := model.OpenChat(t.Context(), spec); !errors.Is(err, model.ErrConfig) {
			t.Errorf("chat of %+v: %v, want ErrConfig", spec, err)
		}
	}
}

// TestBinaryStaysSmall holds all models under the size that was promised.
func TestBinaryStaysSmall(t *testing.T) {
	var size int64
	err := filepath.Walk("weights", func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			size += info.Size()
		}
		return err
	})
	if err != nil || size > 16<<20 {
		t.Errorf("the weights are %d bytes, %v; want at most %d", size, err, 16<<20)
	}
}
