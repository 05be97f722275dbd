package deadletter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/deadletter"
)

func TestReason(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want string
	}{
		{"rejected", context.Background(), fmt.Errorf("400: %w", model.ErrRejected), "rejected"},
		{"unavailable", context.Background(), fmt.Errorf("503: %w", model.ErrUnavailable), "unavailable"},
		{"timed out", context.Background(), errors.Join(model.ErrUnavailable, context.DeadlineExceeded), "unavailable"},
		{"misconfigured", context.Background(), fmt.Errorf("401: %w", model.ErrConfig), ""},
		{"both", context.Background(), errors.Join(model.ErrUnavailable, model.ErrConfig), ""},
		{"undeclared", context.Background(), errors.New("disk full"), ""},
		{"cancelled", cancelled, model.ErrUnavailable, ""},
		{"cancelled inside", context.Background(), errors.Join(model.ErrRejected, context.Canceled), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := deadletter.Reason(tt.ctx, tt.err)
			if got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
			if fatal := tt.want == ""; fatal != (err != nil) || fatal && !errors.Is(err, tt.err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestRow(t *testing.T) {
	prompt := schemas.Prompt{ID: schemas.PromptID("a cat"), Text: "a cat", Source: "test", SourceID: "7"}
	row := deadletter.Row("judge", "k", "refusal", 3, "x"+strings.Repeat("é", 400), prompt)
	if len(row.Detail) != 299 || !utf8.ValidString(row.Detail) {
		t.Errorf("detail of %d bytes: %q", len(row.Detail), row.Detail)
	}
	var back schemas.Prompt
	if err := json.Unmarshal([]byte(row.Payload), &back); err != nil || back != prompt {
		t.Errorf("payload %s gives %+v, %v", row.Payload, back, err)
	}
	if row.Stage != "judge" || row.Key != "k" || row.Reason != "refusal" || row.Attempts != 3 {
		t.Errorf("row %+v", row)
	}
	if err := row.Validate(); err != nil {
		t.Error(err)
	}
}
