package tokenizer_test

import (
	"fmt"

	"github.com/promptmill/promptmill/model/tokenizer"
)

func Example() {
	clip, err := tokenizer.Open("testdata/clip_folder")
	if err != nil {
		fmt.Println(err)
		return
	}
	ids := clip.Encode("A photo of a cat", true)
	fmt.Println(ids, clip.Count("A photo of a cat"))
	fmt.Println(clip.Decode(ids, true))
	padded, mask := clip.Window("A photo of a cat", 9)
	fmt.Println(padded, mask)
	// Output:
	// [0 271 921 406 271 842 1] 5
	// a photo of a cat
	// [0 271 921 406 271 842 1 1 1] [1 1 1 1 1 1 1 0 0]
}
