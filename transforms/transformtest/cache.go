package transformtest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/promptmill/promptmill/model/responselog"
)

// Cache returns a folder for a response log, which is closed before the test removes the folder.
func Cache(t testing.TB) string {
	url := filepath.Join(t.TempDir(), "cache")
	t.Cleanup(func() {
		log, err := responselog.Open(context.Background(), url)
		if err == nil {
			err = log.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	return url
}
