//go:build !unix

package guard

import (
	"net/http"
	"net/url"
)

func direct(*url.URL, int) http.RoundTripper { return nil }
