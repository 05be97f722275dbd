package guard

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/promptmill/promptmill/model"
)

// A Secret is a key that no way of printing shows. The zero Secret is none.
type Secret struct {
	// A closure: printers that walk unexported fields without calling methods find an address.
	reveal func() string
}

const hidden = "[secret]"

// String, GoString, Format, MarshalJSON and MarshalText say "[secret]".
func (Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return hidden }

// Format implements fmt.Formatter: no verb shows the key.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LoadSecret reads what ref names, env:NAME or file:PATH, on the machine where it is called; "" gives
// the zero Secret. A key given inline is an error, because a ref is visible in recipes and job
// descriptions; the error does not repeat it. Errors wrap model.ErrConfig.
func LoadSecret(ref string) (Secret, error) {
	if ref == "" {
		return Secret{}, nil
	}
	kind, arg, _ := strings.Cut(ref, ":")
	var v string
	switch kind {
	case "env":
		v = os.Getenv(arg)
	case "file":
		b, err := os.ReadFile(arg)
		if err != nil {
			return Secret{}, fmt.Errorf("%w: api_key: %w", model.ErrConfig, err)
		}
		v = string(b)
	default:
		return Secret{}, fmt.Errorf("%w: api_key is not a reference; write env:NAME or file:PATH, never the key itself", model.ErrConfig)
	}
	v = strings.TrimSpace(v)
	if v == "" {
		return Secret{}, fmt.Errorf("%w: api_key: %s is empty or not set on this machine", model.ErrConfig, ref)
	}
	if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return Secret{}, fmt.Errorf("%w: api_key: %s has white space or control characters inside; it should hold one line, the key", model.ErrConfig, ref)
	}
	return Secret{func() string { return v }}, nil
}

// Is says whether text is the key, in a time that tells nothing about it. The zero Secret is no text.
func (s Secret) Is(text string) bool {
	v := s.value()
	return v != "" && subtle.ConstantTimeCompare([]byte(v), []byte(text)) == 1
}

// value is "" for the zero Secret.
func (s Secret) value() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// redact takes the key out of a text that a server sent.
func (s Secret) redact(text string) string {
	if v := s.value(); v != "" {
		return strings.ReplaceAll(text, v, hidden)
	}
	return text
}

// errNotSent is a request that could not be made at all.
var errNotSent = errors.New("request could not be made")
