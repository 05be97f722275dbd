package modeltest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
)

// Shard writes rows, valid or not, as a Parquet file such as a snapshot has, Hugging Face's metadata
// included, and returns its path.
func Shard[T schemas.Row](tb testing.TB, rows ...T) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "00000-01 #a.parquet") // '#' is an ordinary character in a name
	table := schemas.TableOf[T]()
	var b bytes.Buffer
	w := parquet.NewWriter(&b, table.Schema(), parquet.KeyValueMetadata(schemas.HuggingFaceKey, table.HuggingFace()))
	for i := range rows {
		if _, err := w.WriteRows([]parquet.Row{table.Append(nil, &rows[i])}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o666)); err != nil {
		tb.Fatal(err)
	}
	return path
}
