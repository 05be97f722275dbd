// Package container_test checks the container files of this folder as far as is possible without an
// engine: what is pinned, who runs it, and that what is copied and named exists.
package container_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
)

func TestContainerFiles(t *testing.T) {
	files, err := filepath.Glob("*.Dockerfile")
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v; want cpu and cuda", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			stages := map[string]bool{}
			version := regexp.MustCompile(`:[0-9]+\.[0-9]+(\.[0-9]+)?[-a-z0-9.]*$`)
			user, entry, last := "", "", ""
			joined := strings.ReplaceAll(string(text), "\\\n", " ")
			for line := range strings.Lines(joined) {
				words := strings.Fields(line)
				if len(words) == 0 || words[0] == "#" {
					continue
				}
				switch last = words[0]; last {
				case "FROM":
					user = ""
					if !version.MatchString(words[1]) {
						t.Errorf("%s is not pinned", words[1])
					}
					if len(words) == 4 {
						stages[words[3]] = true
					}
				case "COPY":
					for _, w := range words[1:] {
						if stage, ok := strings.CutPrefix(w, "--from="); ok && !stages[stage] {
							t.Errorf("copies from %s, which is no stage before it", stage)
						}
					}
				case "USER":
					user = words[1]
				case "ENTRYPOINT":
					entry = words[1]
				case "RUN":
					if strings.Contains(line, "apt-get install") && !strings.Contains(line, "rm -rf /var/lib/apt/lists") {
						t.Errorf("leaves apt's lists: %s", line)
					}
				case "ARG":
					if v, ok := strings.CutPrefix(words[1], "ONNXRUNTIME="); ok && v != onnx.Version {
						t.Errorf("ONNX Runtime %s, results were measured with %s", v, onnx.Version)
					}
				case "ENV":
					for _, w := range words {
						if strings.HasPrefix(w, "PROMPTMILL_") && !strings.HasPrefix(w, onnx.LibraryVariable+"=") {
							t.Errorf("%s is no variable of promptmill", w)
						}
					}
				}
			}
			if user == "" || user == "0" || user == "root" {
				t.Errorf("runs as %q", user)
			}
			if entry != `["/opt/promptmill/promptmill"]` || last != "ENTRYPOINT" {
				t.Errorf("the entry point is %s", entry)
			}
		})
	}
}
