package dataset_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

func say(role, text string) schemas.Message { return schemas.Message{Role: role, Content: text} }

func png(t *testing.T, shade uint8) schemas.Image {
	t.Helper()
	b, err := modeltest.Picture(t, 4, 4, shade).Bytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return schemas.Image{Bytes: b, Path: "a.png"}
}

func pair(id string) schemas.PreferencePair {
	return schemas.PreferencePair{
		ID: id, Prompt: []schemas.Message{say("system", "Be brief."), say("user", "a <b>cat</b> \"&\" "+id)},
		Chosen: []schemas.Message{say("assistant", "a fluffy cat")}, Rejected: []schemas.Message{say("assistant", "cat")},
	}
}

func readAll(t *testing.T, urls ...string) (rows []dataset.Row, err error) {
	t.Helper()
	for row, err := range dataset.Read(t.Context(), urls) {
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func TestRead(t *testing.T) {
	vision := schemas.VisionChatExample{ID: "v", Messages: []schemas.Message{say("user", "which?"), say("assistant", "1")}, Images: []schemas.Image{png(t, 1), png(t, 2)}}
	many := make([]schemas.PreferencePair, 100)
	for i := range many {
		many[i] = pair(fmt.Sprint(i))
	}
	for name, c := range map[string]struct {
		url                string
		rows               int
		preference, vision bool
		last               dataset.Row
	}{
		"pairs":  {modeltest.Shard(t, many...), 100, true, false, dataset.Row{ID: "99", Number: 99, Messages: many[99].Prompt, Chosen: many[99].Chosen, Rejected: many[99].Rejected, Preference: true}},
		"vision": {modeltest.Shard(t, vision), 1, false, true, dataset.Row{ID: "v", Messages: vision.Messages, Images: vision.Images, Vision: true}},
		"evaluation": {
			modeltest.Shard(t, schemas.Evaluation{ID: "e", Messages: vision.Messages, Images: vision.Images}), 1, false, true,
			dataset.Row{ID: "e", Messages: vision.Messages, Images: vision.Images, Vision: true},
		},
	} {
		rows, err := readAll(t, c.url)
		if err != nil || len(rows) != c.rows {
			t.Fatalf("%s: %d rows, %v; want %d", name, len(rows), err, c.rows)
		}
		got := rows[len(rows)-1]
		c.last.File = c.url
		if diff := cmp.Diff(c.last, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: last row (-want +got):\n%s", name, diff)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	pairs := modeltest.Shard(t, pair("1"))
	data, err := os.ReadFile(pairs)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.parquet")
	if err := os.WriteFile(cut, data[:len(data)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		urls []string
		want error
		says string
		rows int
	}{
		"other columns": {[]string{modeltest.Shard(t, schemas.Prompt{ID: "1"})}, dataset.ErrColumns, "messages.list.element.role is missing", 0},
		"mixed shapes":  {[]string{pairs, modeltest.Shard(t, schemas.ChatExample{ID: "1"})}, dataset.ErrColumns, "another shape", 1},
		"missing":       {[]string{filepath.Join(t.TempDir(), "no.parquet")}, store.ErrNotExist, "no.parquet", 0},
		"cut":           {[]string{cut}, nil, "not a Parquet file", 0},
		"folder":        {[]string{t.TempDir() + "/"}, nil, "does not name a file", 0},
	} {
		rows, err := readAll(t, c.urls...)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || len(rows) != c.rows {
			t.Errorf("%s: %d rows, %v; want %d, %v that says %q", name, len(rows), err, c.rows, c.want, c.says)
		}
	}
}

func TestEncode(t *testing.T) {
	p := pair("1")
	text := dataset.Row{ID: "1", Messages: p.Prompt, Chosen: p.Chosen, Rejected: p.Rejected, Preference: true}
	chat := dataset.Row{ID: "2", Messages: append(p.Prompt[:2:2], p.Chosen...)}
	png := schemas.Image{Bytes: []byte("\x89PNG\r\n\x1a\n")}
	implied := dataset.Row{ID: "3", Messages: chat.Messages, Images: []schemas.Image{png, png}, Vision: true}
	explicit := implied
	explicit.Messages = []schemas.Message{say("user", "Image 1: <image>\nImage 2: <image>\nWhich?"), say("assistant", "1")}
	short := explicit
	short.Images = explicit.Images[:1]
	none := dataset.Row{ID: "4", Messages: chat.Messages[1:], Vision: true}
	visionPair := explicit
	visionPair.Preference, visionPair.Chosen, visionPair.Rejected = true, p.Chosen, p.Rejected
	const data = `{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}`
	const cat = `a <b>cat</b> \"&\" 1`
	for _, c := range []struct {
		format dataset.Format
		row    dataset.Row
		want   string // "" is an error that wraps ErrFormat
	}{
		{dataset.OpenAI, text, `{"input":{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"` + cat + `"}]},"preferred_output":[{"role":"assistant","content":"a fluffy cat"}],"non_preferred_output":[{"role":"assistant","content":"cat"}]}`},
		{dataset.OpenAI, chat, `{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"` + cat + `"},{"role":"assistant","content":"a fluffy cat"}]}`},
		{dataset.OpenAI, explicit, `{"messages":[{"role":"user","content":[{"type":"text","text":"Image 1: "},` + data + `,{"type":"text","text":"Image 2: "},` + data + `,{"type":"text","text":"Which?"}]},{"role":"assistant","content":"1"}]}`},
		{dataset.OpenAI, visionPair, ""},
		{dataset.LlamaFactory, text, `{"conversations":[{"from":"system","value":"Be brief."},{"from":"human","value":"` + cat + `"}],"chosen":{"from":"gpt","value":"a fluffy cat"},"rejected":{"from":"gpt","value":"cat"}}`},
		{dataset.LlamaFactory, implied, `{"conversations":[{"from":"system","value":"Be brief."},{"from":"human","value":"<image><image>\n` + cat + `"},{"from":"gpt","value":"a fluffy cat"}],"images":["a.png","b.png"]}`},
		{dataset.LlamaFactory, none, `{"conversations":[{"from":"human","value":"` + cat + `"},{"from":"gpt","value":"a fluffy cat"}],"images":[]}`},
		{dataset.LlamaFactory, short, ""},
		{dataset.LLaVA, implied, `{"id":"3","image":["a.png","b.png"],"conversations":[{"from":"human","value":"Be brief.\n<image><image>\n` + cat + `"},{"from":"gpt","value":"a fluffy cat"}]}`},
		{dataset.LLaVA, none, `{"id":"4","conversations":[{"from":"human","value":"` + cat + `"},{"from":"gpt","value":"a fluffy cat"}]}`},
		{dataset.LLaVA, text, ""},
		{"csv", chat, ""},
	} {
		got, err := dataset.Encode(c.format, c.row, []string{"a.png", "b.png"}[:len(c.row.Images)])
		if c.want == "" {
			if !errors.Is(err, dataset.ErrFormat) || !strings.Contains(err.Error(), "("+c.row.ID+")") {
				t.Errorf("%s, row %s: %s, %v; want ErrFormat that names the row", c.format, c.row.ID, got, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, string(got)); err != nil || diff != "" {
			t.Errorf("%s, row %s: %v (-want +got):\n%s", c.format, c.row.ID, err, diff)
		}
	}
}

func TestWrite(t *testing.T) {
	same := png(t, 7)
	var list []schemas.VisionChatExample
	for i := range 5 {
		list = append(list, schemas.VisionChatExample{ID: fmt.Sprint(i), Messages: []schemas.Message{say("user", "which?"), say("assistant", "1")}, Images: []schemas.Image{same, png(t, uint8(i))}})
	}
	data := modeltest.Shard(t, list...)
	st, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg := dataset.WriteConfig{Format: dataset.LLaVA, Folder: "out", Split: "train", ShardRows: 2}
	for range 2 { // the second time changes nothing
		w, err := dataset.Write(t.Context(), st, cfg, dataset.Read(t.Context(), []string{data}))
		if err != nil {
			t.Fatal(err)
		}
		if w.Rows != 5 || len(w.Files) != 3 || w.Pictures != 6 || !w.Vision || w.Preference || w.Files[2].Name != "out/train/00002.json" {
			t.Errorf("written: %+v", w)
		}
	}
	var rows []struct {
		ID    string
		Image []string
	}
	content, _, err := st.Read(t.Context(), "out/train/00001.json")
	if err := errors.Join(err, json.Unmarshal(content, &rows)); err != nil || len(rows) != 2 || rows[0].ID != "2" {
		t.Fatalf("second file: %v: %s", err, content)
	}
	if got, _, err := st.Read(t.Context(), "out/"+rows[1].Image[0]); err != nil || string(got) != string(same.Bytes) {
		t.Errorf("picture %s: %d bytes, %v", rows[1].Image[0], len(got), err)
	}
	cfg.ShardRows = 3
	if _, err := dataset.Write(t.Context(), st, cfg, dataset.Read(t.Context(), []string{data})); !errors.Is(err, store.ErrExists) {
		t.Errorf("other rows into the same folder: %v; want ErrExists", err)
	}
	if _, err := dataset.Write(t.Context(), st, cfg, dataset.Read(t.Context(), nil)); err == nil {
		t.Error("no rows are written without an error")
	}
}
