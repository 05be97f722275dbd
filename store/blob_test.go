package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/promptmill/promptmill/store"
)

// A blob that is whole is kept, one that a crash of the machine left cut off or empty of its bytes is
// written again.
func TestPutBlob(t *testing.T) {
	data := []byte("a picture")
	for name, there := range map[string]string{"whole": "a picture", "cut off": "a pic", "zeroed": "\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			sha, err := store.PutBlob(t.Context(), s, data)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.URL(), filepath.FromSlash(store.BlobName(sha))), []byte(there), 0o644); err != nil {
				t.Fatal(err)
			}
			if again, err := store.PutBlob(t.Context(), s, data); again != sha || err != nil {
				t.Errorf("put again: %s, %v", again, err)
			}
			if got, err := store.GetBlob(t.Context(), s, sha); string(got) != string(data) || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
			wantTemps(t, s.URL(), 0)
		})
	}
}
