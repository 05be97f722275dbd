package guard

import (
	"net"
	"net/http"
	"net/url"
	"time"
)

// newTransport is what carries requests to base. Every slot keeps its connection.
func newTransport(base *url.URL, width int) http.RoundTripper {
	if t := direct(base, width); t != nil {
		return t
	}
	// A few connections more, for those that are being closed.
	width += 8
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        width, MaxIdleConnsPerHost: width, MaxConnsPerHost: width,
		IdleConnTimeout: 90 * time.Second,
		// Answers are short or already compressed, and may not unfold beyond the limit on their size.
		DisableCompression: true,
	}
}
