package model_test

import (
	"context"
	"testing"

	"github.com/promptmill/promptmill/model"
)

type chat = model.Chat

// A weighty is a chat model that takes memory until it is closed.
type weighty struct {
	chat
	closed bool
}

func (w *weighty) Close() { w.closed = true }

func init() {
	model.Register("weighty", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return &weighty{}, nil }})
}

func TestReleaseChats(t *testing.T) {
	open := func(name string) *weighty {
		m, err := model.OpenChat(t.Context(), model.Spec{Backend: "weighty", Model: name})
		if err != nil {
			t.Fatal(err)
		}
		return m.(*weighty)
	}
	old, now := open("old"), open("now")
	model.ReleaseChats(func(s model.Spec) bool { return s.Model == "now" })
	if !old.closed || now.closed {
		t.Errorf("closed: old %v, kept %v", old.closed, now.closed)
	}
	if open("now") != now || open("old") == old {
		t.Error("what is kept is to stay, what is closed to be opened anew")
	}
}
