// Package deadletter decides which failed calls are the fault of one record, and writes the
// schemas.Rejected rows of those.
//
// # Design
//
// Whatever stage gives up, the payload is the prompt: all that was paid for on the way is in the
// response log, so running the prompt again through the whole flow asks only what is missing, and one
// form of payload serves every stage.
package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
)

// Reasons that every stage which calls a model has.
const (
	// Rejected: the backend will never answer this request.
	Rejected = "rejected"
	// Unavailable: the backend did not answer within its limits; replay can bring the row back.
	Unavailable = "unavailable"
)

// Reason gives the reason for which a failed call kills its record, or, if the fault is not the
// record's, the error with which the bundle must fail: a misconfigured backend, a cancelled context and
// whatever a backend did not declare.
func Reason(ctx context.Context, err error) (string, error) {
	switch {
	case ctx.Err() != nil, errors.Is(err, context.Canceled), errors.Is(err, model.ErrConfig):
		return "", err
	case errors.Is(err, model.ErrRejected):
		return Rejected, nil
	case errors.Is(err, model.ErrUnavailable):
		return Unavailable, nil
	}
	return "", err
}

// maxDetail keeps dead letters small: a mad server's answer may be megabytes long.
const maxDetail = 300

// Row is the dead letter of one unit: key names it at the stage, attempts counts the requests made for
// it, detail is the error or the offending text, of which the first 300 bytes are kept.
func Row(stage, key, reason string, attempts int, detail string, prompt schemas.Prompt) schemas.Rejected {
	payload, err := json.Marshal(prompt)
	if err != nil {
		panic(err) // a struct of strings
	}
	return schemas.Rejected{
		Stage: stage, Key: key, Reason: reason, Attempts: int32(attempts),
		Detail: clip(detail), Payload: string(payload),
	}
}

// clip cuts s to maxDetail bytes between two runes.
func clip(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	n := maxDetail
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
