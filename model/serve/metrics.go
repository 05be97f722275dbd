package serve

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/promptmill/promptmill/model"
)

// metrics are what GET /metrics shows, of one Server.
type metrics struct {
	registry           *prometheus.Registry
	requests           *prometheus.CounterVec
	seconds            *prometheus.HistogramVec
	prompt, completion prometheus.Counter
	// read counts pictures in requests, drawn pictures in answers.
	read, drawn prometheus.Counter
}

func newMetrics(d *door) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "promptmill_requests_total", Help: "Requests, by endpoint (chat, images, models, other) and HTTP status.",
		}, []string{"endpoint", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "promptmill_request_seconds", Help: "Time from the head of a request to its answer, the wait in the queue included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 15), // to six minutes
		}, []string{"endpoint"}),
		prompt:     counter("promptmill_prompt_tokens_total", "Tokens of the conversations answered, once a request."),
		completion: counter("promptmill_completion_tokens_total", "Tokens of the answers."),
		read:       counter("promptmill_pictures_read_total", "Pictures taken in chat requests."),
		drawn:      counter("promptmill_pictures_drawn_total", "Pictures drawn and sent."),
	}
	m.registry.MustRegister(
		m.requests, m.seconds, m.prompt, m.completion, m.read, m.drawn,
		gauge("promptmill_requests_in_flight", "Requests being answered.", d.inside),
		gauge("promptmill_requests_waiting", "Requests that wait for their turn.", d.waiting),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// done counts a request that has been answered.
func (m *metrics) done(endpoint string, code int, took time.Duration) {
	m.requests.WithLabelValues(endpoint, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(endpoint).Observe(took.Seconds())
}

func (m *metrics) chatted(u model.Usage) {
	m.prompt.Add(float64(u.PromptTokens))
	m.completion.Add(float64(u.CompletionTokens))
}
