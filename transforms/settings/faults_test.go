package settings_test

import (
	"errors"
	"testing"

	"github.com/promptmill/promptmill/transforms/settings"
)

func TestFaults(t *testing.T) {
	faults := settings.Of("judge")
	faults.Check(true, "samples: %d is fine", 3)
	faults.Join(nil, errors.New("templates.pick: no text"), nil)
	if err := settings.Of("judge").Err(); err != nil {
		t.Errorf("no fault: %v", err)
	}
	cause := errors.New("no such file")
	faults.Check(false, "samples: %d is not in 1..64", 0)
	faults.Check(false, "template: %w", cause)
	faults.CheckErr("files", nil)
	faults.CheckErr("store", cause)
	err := faults.Err()
	const want = "templates.pick: no text\njudge.samples: 0 is not in 1..64\njudge.template: no such file\njudge.store: no such file"
	if err == nil || err.Error() != want || !errors.Is(err, cause) {
		t.Errorf("got %v, want %s", err, want)
	}
	whole := settings.Of("")
	whole.Check(false, "name: empty")
	if err := whole.Err(); err == nil || err.Error() != "name: empty" {
		t.Errorf("of the recipe: %v", err)
	}
}
