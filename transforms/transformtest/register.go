package transformtest

import "github.com/apache/beam/sdks/v2/go/pkg/beam/register"

// Register lets Collect take rows of T, a type of the package under test: call it from an init function.
func Register[T any]() { register.DoFn1x0[T](&collectFn[T]{}) }
