package runners

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"
)

// digestOption is the worker option that holds the digest of the file a worker has to be.
const digestOption = "promptmill_worker"

// otherBuild is what a refusing worker says, and the launcher listens for.
const otherBuild = "is another build"

// selfDigest is the hex SHA-256 of this program's file.
var selfDigest = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's file: %w", err)
	}
	return fileDigest(self)
})

func fileDigest(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// unfit says why this program must not work on a job whose launcher wants the worker want, or "": an old
// worker would run a new graph with other code, and the rows would be nobody's.
func unfit(want string) string {
	self, err := selfDigest()
	path, pathErr := os.Executable()
	host, hostErr := os.Hostname()
	switch {
	case err != nil:
		return err.Error()
	case pathErr != nil || hostErr != nil:
		path, host = "promptmill", "this machine"
	}
	switch want {
	case self:
		return ""
	case "":
		return fmt.Sprintf("worker %s on %s: the job does not say which worker it wants; start it with this version of promptmill", path, host)
	}
	return fmt.Sprintf("worker %s on %s "+otherBuild+" (%.12s) than the launcher's (%.12s): put the launcher's file there, or name the workers' file in engine.worker_binary",
		path, host, self, want)
}
