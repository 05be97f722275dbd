package scene_test

import (
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/scene"
)

func TestConformance(t *testing.T) {
	spec := model.Spec{Backend: "scene"}
	t.Run("Chat", func(t *testing.T) {
		modeltest.RunChat(t, func(t *testing.T) model.Chat {
			m, err := model.OpenChat(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}, modeltest.ChatCaps{Seeds: true, Varied: true, Vision: true, PictureSize: scene.Side, Decodes: true, Limits: true})
	})
	t.Run("Images", func(t *testing.T) {
		modeltest.RunImages(t, func(t *testing.T) model.Images {
			m, err := model.OpenImages(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}, modeltest.ImageCaps{Width: 64, Height: 32, Seeds: true})
	})
	t.Run("Scorer", func(t *testing.T) {
		modeltest.RunScorer(t, func(t *testing.T) model.Scorer {
			m, err := model.OpenScorer(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}, modeltest.ScorerCaps{PictureSize: 48, Distinct: true})
	})
}
