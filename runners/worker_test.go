package runners_test

import (
	"net"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/runners"
)

// The arguments that engines start workers with are told from people's.
func TestIsWorker(t *testing.T) {
	for line, want := range map[string]bool{
		"--id=1-1 --provision_endpoint=localhost:1":                                                             true, // Flink, Spark
		"--id='job-1_go' --provision_endpoint=localhost:1":                                                      true, // prism
		"--id=1 --logging_endpoint=a:1 --artifact_endpoint=a:2 --provision_endpoint=a:3 --control_endpoint=a:4": true, // containers
		"--worker=true --id=1 --logging_endpoint=a:1 --control_endpoint=a:4 --semi_persist_dir=/tmp":            true, // Beam's own first step
		"preference --recipe demo --out x":                                                                      false,
		"worker-pool --listen localhost:50000":                                                                  false,
		"serve --worker":                                                                                        false, // a subcommand's flag is its own
		"":                                                                                                      false,
		"--help":                                                                                                false,
	} {
		if got := runners.IsWorker(strings.Fields(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

// A pool that cannot listen says so at once.
func TestOpenPool(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := runners.OpenPool(taken.Addr().String()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
}
