package transformtest

import (
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Register lets Collect take rows of T, a type of the package under test: call it from an init function.
func Register[T any]() { beam.RegisterDoFn(reflect.TypeFor[collectFn[T]]()) }
