// Package settings says what is wrong with the settings of a step: all of it, and where in a recipe it stands.
package settings

import (
	"errors"
	"fmt"
)

// Faults gathers the faults of one section of a recipe.
type Faults struct {
	section string
	errs    []error
}

// Of begins the faults of a section, such as judge or training.sft; "" is the recipe as a whole.
func Of(section string) *Faults {
	if section != "" {
		section += "."
	}
	return &Faults{section: section}
}

// Check adds a fault unless ok. The format begins with the key in the section and a colon, and goes on with what is
// wrong and what to do.
func (f *Faults) Check(ok bool, format string, args ...any) {
	if !ok {
		f.errs = append(f.errs, fmt.Errorf("%s%w", f.section, fmt.Errorf(format, args...)))
	}
}

// CheckErr adds err, if it is one, as the fault of a key in the section.
func (f *Faults) CheckErr(key string, err error) {
	if err != nil {
		f.Check(false, "%s: %w", key, err)
	}
}

// Join adds faults that say themselves where they stand; nil adds nothing.
func (f *Faults) Join(errs ...error) { f.errs = append(f.errs, errs...) }

// Err joins all faults, in the order in which they were found; nil if there are none.
func (f *Faults) Err() error { return errors.Join(f.errs...) }
