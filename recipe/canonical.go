package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Canonical is the JSON of v with the keys of every object sorted and no white space: recipes that
// decode to the same values have the same bytes, however they were written, and whatever the order of
// a struct's fields. It panics if v has no JSON.
func Canonical(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("recipe: %T has no JSON: %v", v, err))
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var plain any
	if err := dec.Decode(&plain); err != nil {
		panic(fmt.Sprintf("recipe: JSON of %T: %v", v, err))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(plain); err != nil { // maps are written in the order of their keys
		panic(fmt.Sprintf("recipe: JSON of %T: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
