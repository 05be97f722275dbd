package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ReadOptions hands each option of a Spec to the reader that a backend has under its name. It joins all faults, by
// name, which wrap ErrConfig: options that there are not, and what readers say.
func ReadOptions(given map[string]string, known map[string]func(value string) error) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		read, ok := known[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%w: no option %q; there are %s", ErrConfig, name, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		} else if err := read(given[name]); err != nil {
			errs = append(errs, fmt.Errorf("%w: option %s: %w", ErrConfig, name, err))
		}
	}
	return errors.Join(errs...)
}

// Positive is the reader of an option that is a whole number of 1 or more.
func Positive(to *int) func(value string) error {
	return func(value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a whole number of 1 or more; leave it out for the default", value)
		}
		*to = n
		return nil
	}
}
