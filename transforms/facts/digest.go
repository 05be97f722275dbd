package facts

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// ends is how much of the beginning and of the end of a large file a digest reads.
const ends = 1 << 20

// Digest identifies what a path of an Input stands for: the number, sizes and content of its files, of large ones
// the first and the last MiB. Parquet and SQLite files keep at their ends what changes with every row.
func Digest(path string) (string, error) {
	list, err := files(path, ".parquet")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, name := range list {
		if err := digestFile(h, name); err != nil {
			return "", fmt.Errorf("digest of %s: %w", name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func digestFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	if err := binary.Write(w, binary.BigEndian, size); err != nil {
		return err
	}
	if size <= 2*ends {
		_, err = io.Copy(w, f)
		return err
	}
	for _, at := range []int64{0, size - ends} {
		if _, err := io.Copy(w, io.NewSectionReader(f, at, ends)); err != nil {
			return err
		}
	}
	return nil
}
