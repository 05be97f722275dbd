package responselog

import (
	"bytes"
	"slices"
	"testing"

	"github.com/promptmill/promptmill/model"
)

// FuzzRead reads damaged journals and segments: it never panics, takes nothing for a record that is
// not one, and finds a sound record behind whatever precedes it.
func FuzzRead(f *testing.F) {
	answers := []model.Answer{{Text: "a photo of a cat, sharp focus, trending, sharp focus, trending, sharp focus", Finish: model.FinishStop}}
	want := record{key: key{1, 2, 3}, stored: 5, first: 7, n: 1, payload: formatAnswers(answers)}
	sound, err := newFrame(want)
	if err != nil {
		f.Fatal(err)
	}
	found, _, _ := scan(slices.Concat(sound, sound))
	segment, _ := buildSegment(found)
	f.Add(segment)
	f.Add(sound[:len(sound)-1])
	f.Add([]byte(frameMagic + "\xff\xff\xff\x00" + frameMagic + "\x2f\x00\x00\x00"))
	f.Add(bytes.Replace(sound, []byte{codecS2, byte(len(want.payload))}, []byte{codecS2, 0xff}, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if records, err := readIndex(bytes.NewReader(data), int64(len(data))); err == nil {
			for _, r := range records {
				if int(r.offset)+int(r.size) > len(data) {
					t.Errorf("index entry %+v of %d bytes", r, len(data))
				}
			}
		}
		sealed, _ := segmentFrames(data)
		for _, r := range sealed {
			if got, err := parseFrame(r.frame); err == nil && len(got.payload) > maxPayload {
				t.Errorf("a payload of %d bytes", len(got.payload))
			}
		}
		frames, _, torn := scan(append(bytes.Clone(data), sound...))
		if len(frames) == 0 || torn != 0 {
			t.Fatalf("%d frames, %d bytes torn", len(frames), torn)
		}
		got, err := parseFrame(frames[len(frames)-1].frame)
		if err != nil || got.key != want.key || got.stored != want.stored || got.first != want.first || got.n != want.n || !bytes.Equal(got.payload, want.payload) {
			t.Errorf("the sound record reads as %+v, %v", got, err)
		}
	})
}

// FuzzAnswers decodes payloads.
func FuzzAnswers(f *testing.F) {
	f.Add(formatAnswers([]model.Answer{{Text: "a"}, {Text: "b", Finish: "stop"}}), 2)
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 1)
	f.Fuzz(func(t *testing.T, payload []byte, n int) {
		n &= 0xff
		answers, err := parseAnswers(payload, n)
		if err != nil {
			return
		}
		again, err := parseAnswers(formatAnswers(answers), n)
		if err != nil || !slices.Equal(again, answers) {
			t.Errorf("%q reads back as %q, %v", answers, again, err)
		}
	})
}
