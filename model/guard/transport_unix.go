//go:build unix

package guard

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/promptmill/promptmill/model/guard/wire"
)

// direct returns the cheaper transport for an endpoint that is plain HTTP and behind no proxy, else nil.
func direct(base *url.URL, width int) http.RoundTripper {
	host, port := base.Hostname(), base.Port()
	if base.Scheme != "http" || strings.ContainsFunc(host, func(r rune) bool { return r >= 0x80 }) {
		return nil
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: base}); proxy != nil || err != nil {
		return nil
	}
	if port == "" {
		port = "80"
	}
	return wire.New(net.JoinHostPort(host, port), width)
}
