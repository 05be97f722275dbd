package vlm_test

import (
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
)

func TestConformance(t *testing.T) {
	spec := model.Spec{Backend: "vlm", Model: folder(t, small), Options: map[string]string{"max_batch": "12"}}
	modeltest.RunChat(t, func(t *testing.T) model.Chat {
		m, err := model.OpenChat(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}, modeltest.ChatCaps{Seeds: true, Varied: true, Vision: true, PictureSize: 24, Limits: true})
}
