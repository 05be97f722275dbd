package settings

import (
	"errors"
	"strings"
)

// Under gives the faults that err joins, of a section whose settings stand elsewhere in a recipe, the path where they
// do: source.inputs[0].path is pairs.inputs[0].path under pairs. It keeps what they wrap.
func Under(path, section string, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, Under(path, section, e))
		}
		return errors.Join(errs...)
	}
	return &moved{path + "." + strings.TrimPrefix(err.Error(), section+"."), err}
}

// A moved fault is err under another path.
type moved struct {
	text string
	err  error
}

func (m *moved) Error() string { return m.text }
func (m *moved) Unwrap() error { return m.err }
