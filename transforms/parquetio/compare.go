package parquetio

import (
	"errors"
	"fmt"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// compareSchemas reports what keeps a reader from finding the columns of want in a file of schema got:
// columns that are missing, differ in case or have another type. parquet-go would fill their fields with
// zeros without a word. Columns that only the file has are passed over, and any level may be nullable.
func compareSchemas(want, got *parquet.Schema) error {
	return compareFields(want, got, "")
}

func compareFields(want, got parquet.Node, path string) error {
	var errs []error
	for _, w := range want.Fields() {
		column := path + w.Name()
		g, err := field(got, w.Name())
		if err != nil {
			errs = append(errs, fmt.Errorf("column %s: %w", column, err))
			continue
		}
		errs = append(errs, compareNodes(w, g, column))
	}
	return errors.Join(errs...)
}

func field(n parquet.Node, name string) (parquet.Node, error) {
	var names []string
	var folded string
	for _, f := range n.Fields() {
		switch {
		case f.Name() == name:
			return f, nil
		case strings.EqualFold(f.Name(), name):
			folded = f.Name()
		}
		names = append(names, f.Name())
	}
	if folded != "" {
		return nil, fmt.Errorf("the file has it as %s: names differ in case", folded)
	}
	return nil, fmt.Errorf("missing; the file has %s there", strings.Join(names, ", "))
}

func compareNodes(want, got parquet.Node, column string) error {
	switch {
	case want.Repeated() != got.Repeated() || isList(want) != isList(got) || want.Leaf() != got.Leaf():
		return fmt.Errorf("column %s: the file has %s, not %s", column, describe(got), describe(want))
	case !want.Leaf():
		return compareFields(want, got, column+".")
	}
	// A writer may leave out the logical type of text and of plain numbers, never give another.
	if g := got.Type(); g.Kind() != want.Type().Kind() || g.LogicalType() != nil && g.String() != want.Type().String() {
		return fmt.Errorf("column %s: the file has %s, not %s", column, describe(got), describe(want))
	}
	return nil
}

func isList(n parquet.Node) bool { return !n.Leaf() && n.Type().String() == "LIST" }

func describe(n parquet.Node) string {
	name := "a group"
	switch {
	case n.Leaf():
		name = n.Type().String()
	case isList(n):
		name = "a LIST"
	}
	if n.Repeated() {
		return name + ", repeated (not a LIST)"
	}
	return name
}
