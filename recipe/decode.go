package recipe

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Decode fills the struct that into points to; fields whose keys the document lacks stay as they are.
// It is strict: unknown keys, values of another type and secrets in the clear are faults, and all of
// them come joined, each starting with its place and the path of its key. A document with secrets is
// not looked at further.
//
// Keys are the yaml tags of fields; a field tagged ",inline" and an embedded struct give their keys
// to the struct around them. Fields are booleans, numbers, texts, time.Duration as 1m30s, types that
// unmarshal text, structs, pointers, slices, and maps with text keys. An empty value leaves a struct
// as it is and makes a pointer, a slice or a map nil; so does an empty list or map. Anything else in
// the type of into is a programming fault, and panics.
func (d *Document) Decode(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("recipe: Decode into %T, not a pointer to a struct", into))
	}
	if err := d.secrets(); err != nil {
		return err
	}
	dec := decoder{top: v.Elem().Type()}
	dec.value(d.root, "", v.Elem())
	return dec.faults.err(d.name)
}

type decoder struct {
	faults faults
	top    reflect.Type
}

var durationType = reflect.TypeFor[time.Duration]()

// value stores n, which stands at path, in v.
func (d *decoder) value(n *node, path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		d.pointer(n, path, v)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.unmarshal(n, path, u)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, path, v)
	case reflect.Map:
		d.dictionary(n, path, v)
	case reflect.Slice:
		d.slice(n, path, v)
	case reflect.String:
		if n.kind == nullKind || n.kind >= listKind {
			d.wants(n, path, "text")
			return
		}
		v.SetString(n.text)
	case reflect.Bool:
		if n.kind != boolKind {
			d.wants(n, path, "true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.text, "true"))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if v.Type() == durationType {
			d.duration(n, path, v)
			return
		}
		d.integer(n, path, v)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.integer(n, path, v)
	case reflect.Float32, reflect.Float64:
		d.float(n, path, v)
	default:
		panic(fmt.Sprintf("recipe: %s is a %s, which a recipe cannot hold", path, v.Type()))
	}
}

func (d *decoder) wants(n *node, path, what string) {
	d.faults.add(n.at, "%s wants %s%s", path, what, n.got())
}

func (d *decoder) pointer(n *node, path string, v reflect.Value) {
	if n.kind == nullKind {
		v.SetZero()
		return
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	d.value(n, path, v.Elem())
}

func (d *decoder) unmarshal(n *node, path string, u encoding.TextUnmarshaler) {
	if n.kind == nullKind || n.kind >= listKind {
		d.wants(n, path, "text")
		return
	}
	if err := u.UnmarshalText([]byte(n.text)); err != nil {
		d.faults.add(n.at, "%s: %w", path, err)
	}
}

func (d *decoder) duration(n *node, path string, v reflect.Value) {
	t, err := time.ParseDuration(n.text)
	if err != nil || n.kind >= listKind {
		d.wants(n, path, "a duration such as 30s or 1h30m")
		return
	}
	v.SetInt(int64(t))
}

func (d *decoder) integer(n *node, path string, v reflect.Value) {
	if n.kind != intKind {
		d.wants(n, path, "a whole number")
		return
	}
	digits, base := n.text, 10
	if rest, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = rest, 16
	} else if rest, ok := strings.CutPrefix(digits, "0o"); ok {
		digits, base = rest, 8
	}
	bits := v.Type().Bits()
	if v.CanUint() {
		u, err := strconv.ParseUint(strings.TrimPrefix(digits, "+"), base, bits)
		if err != nil {
			d.wants(n, path, fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-bits)))
			return
		}
		v.SetUint(u)
		return
	}
	i, err := strconv.ParseInt(digits, base, bits)
	if err != nil {
		most := int64(math.MaxInt64) >> (64 - bits)
		d.wants(n, path, fmt.Sprintf("a whole number from %d to %d", -most-1, most))
		return
	}
	v.SetInt(i)
}

func (d *decoder) float(n *node, path string, v reflect.Value) {
	if n.kind != intKind && n.kind != floatKind {
		d.wants(n, path, "a number")
		return
	}
	f, err := strconv.ParseFloat(n.text, v.Type().Bits())
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		d.wants(n, path, "a number in decimal digits, not too large")
		return
	}
	v.SetFloat(f)
}

func (d *decoder) slice(n *node, path string, v reflect.Value) {
	switch {
	case n.kind == nullKind || n.kind == listKind && len(n.entries) == 0:
		v.SetZero()
		return
	case n.kind == mapKind:
		d.wants(n, path, "a list")
		return
	case n.kind != listKind:
		d.faults.add(n.at, "%s wants a list%s; write it as [%s]", path, n.got(), shorten(inline(n)))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.entries), len(n.entries)))
	for i, e := range n.entries {
		d.value(e.value, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
	}
}

func (d *decoder) dictionary(n *node, path string, v reflect.Value) {
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		panic(fmt.Sprintf("recipe: the keys of %s are not text", path))
	}
	if n.kind != nullKind && n.kind != mapKind {
		d.wants(n, path, "a map")
		return
	}
	v.SetZero()
	for _, e := range n.entries {
		value := reflect.New(t.Elem()).Elem()
		d.value(e.value, join(path, e.key), value)
		if v.IsNil() {
			v.Set(reflect.MakeMap(t))
		}
		v.SetMapIndex(reflect.ValueOf(e.key).Convert(t.Key()), value)
	}
}

func (d *decoder) structure(n *node, path string, v reflect.Value) {
	fields := fieldsOf(v.Type())
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	if n.kind != nullKind && n.kind != mapKind {
		d.wants(n, path, "a map with keys "+strings.Join(keys, ", "))
		return
	}
	for _, e := range n.entries {
		i := slices.Index(keys, e.key)
		if i < 0 {
			d.unknown(e, path, keys)
			continue
		}
		d.value(e.value, join(path, e.key), reach(v, fields[i].index))
	}
}

// unknown says what was meant by a key, also where it belongs somewhere else.
func (d *decoder) unknown(e *entry, path string, keys []string) {
	within := ""
	if path != "" {
		within = " in " + path
	}
	advice := hint(e.key, keys)
	if other := locations(d.top, e.key, "", nil); len(other) > 0 && strings.HasPrefix(advice, "there are") {
		advice = "did you mean " + strings.Join(other, " or ") + "?"
	}
	d.faults.add(e.at, "unknown key %q%s; %s", shorten(e.key), within, advice)
}

// locations are the paths in a struct type that end in key.
func locations(t reflect.Type, key, path string, seen []reflect.Type) (paths []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(seen, t) || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return nil
	}
	for _, f := range fieldsOf(t) {
		if f.key == key {
			paths = append(paths, join(path, key))
		}
		paths = append(paths, locations(f.typ, key, join(path, f.key), append(seen, t))...)
	}
	return paths
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// A field of a struct, or of one that is inline in it.
type field struct {
	key   string
	typ   reflect.Type
	index []int
}

// fieldsOf lists the fields in their order. It panics on a type that a recipe cannot have.
func fieldsOf(t reflect.Type) (fields []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if key != "" {
			fields = append(fields, field{key, f.Type, []int{i}})
			continue
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct || !f.Anonymous && options != "inline" {
			panic(errors.New("recipe: field " + f.Name + " of " + t.String() + " has no yaml tag"))
		}
		for _, g := range fieldsOf(inner) {
			g.index = append([]int{i}, g.index...)
			fields = append(fields, g)
		}
	}
	return fields
}

// reach is the field of v at index; embedded pointers on the way are made.
func reach(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}
