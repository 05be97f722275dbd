package schemas

import (
	"encoding/json"
	"reflect"
	"strings"
)

// HuggingFaceKey is the key of the Parquet metadata under which Hugging Face datasets keeps features.
const HuggingFaceKey = "huggingface"

// HuggingFace is the value under HuggingFaceKey: {"info":{"features":{...}}}, which makes the reader of
// Hugging Face datasets decode pictures. The forms are those that datasets 3 to 5 all read: a list of
// structs is a JSON list of one struct, a list of anything else a "Sequence" (never "List"). The order of the
// fields is that of the columns: the reader ignores features whose struct differs from the file's.
func (t *Table[T]) HuggingFace() string {
	return `{"info":{"features":` + structFeature(reflect.TypeFor[T]()) + `}}`
}

func structFeature(t reflect.Type) string {
	var b strings.Builder
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("parquet"), ",")
		// Marshalling a string cannot fail.
		quoted, _ := json.Marshal(name)
		b.WriteString(",")
		b.Write(quoted)
		b.WriteString(":" + feature(t.Field(i).Type))
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

func feature(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[Image]():
		return `{"_type":"Image"}`
	case t.Kind() == reflect.Struct:
		return structFeature(t)
	case isList(t) && t.Elem().Kind() == reflect.Struct && t.Elem() != reflect.TypeFor[Image]():
		return "[" + feature(t.Elem()) + "]"
	case isList(t):
		return `{"feature":` + feature(t.Elem()) + `,"_type":"Sequence"}`
	}
	dtype := t.Kind().String() // string, int32, int64, float64, bool: the names agree
	if t.Kind() == reflect.Slice {
		dtype = "binary"
	}
	return `{"dtype":"` + dtype + `","_type":"Value"}`
}
