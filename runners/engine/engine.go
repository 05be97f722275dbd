// Package engine has the settings of the engines that run a pipeline on more than one machine: where
// the engine is, how workers start there, and how patient the launcher is. It is plain data: package
// runners acts on it.
package engine

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/promptmill/promptmill/transforms/settings"
)

// The runners, in the order in which they are shown.
const (
	Prism    = "prism"
	Direct   = "direct"
	Flink    = "flink"
	Spark    = "spark"
	Dataflow = "dataflow"
)

// Names are the runners. prism runs in process, or on a job server if Endpoint is set; direct is Beam's
// old serial runner, kept to show that rows do not depend on the runner.
func Names() []string { return []string{Prism, Direct, Flink, Spark, Dataflow} }

// How workers start.
const (
	// Loopback: in the launcher. For trying a job server on one machine.
	Loopback = "loopback"
	// Process: the engine starts this program on its machines.
	Process = "process"
	// External: the engine asks a worker pool on its machine, which keeps models between stages and jobs.
	External = "external"
	// Docker: the engine starts a container.
	Docker = "docker"
)

// Environments are the ways in which workers start.
func Environments() []string { return []string{Loopback, Process, External, Docker} }

// Config is the section engine of a recipe. All of it is visible in the job's description on the
// engine, so it holds no secret.
type Config struct {
	// Endpoint is the job server as host:port, not Flink's or Spark's own port.
	Endpoint string `json:"endpoint" yaml:"endpoint"`
	// RestURL is Flink's REST interface: a cancel that works, the slots, the restart strategy.
	RestURL string `json:"rest_url" yaml:"rest_url"`
	// Environment is how workers start; "" is external if a model of the recipe wants a GPU, else process.
	Environment string `json:"environment" yaml:"environment"`
	// WorkerCommand is this program's path on the engine's machines; "" is its path here.
	WorkerCommand string `json:"worker_command" yaml:"worker_command"`
	// WorkerEnv are environment variables of workers that the engine starts as processes.
	WorkerEnv map[string]string `json:"worker_env" yaml:"worker_env"`
	// WorkerBinary is, on this machine, the file that workers run, where it is not this program (another
	// platform): workers whose file has another digest refuse the job.
	WorkerBinary string `json:"worker_binary" yaml:"worker_binary"`
	// StageWorker sends WorkerBinary to the engine, for container images that fetch it.
	StageWorker bool `json:"stage_worker" yaml:"stage_worker"`
	// WorkerPool is the pool that each of the engine's machines reaches, host:port.
	WorkerPool string `json:"worker_pool" yaml:"worker_pool"`
	// Image is the container image of docker workers and of Dataflow.
	Image string `json:"image" yaml:"image"`
	// Parallelism is how many parts of a stage run at once; 0 leaves it to the engine.
	Parallelism int `json:"parallelism" yaml:"parallelism"`
	// Workers is how many worker processes run at once on the whole engine: the limits of model servers
	// are divided by it.
	Workers int `json:"workers" yaml:"workers"`
	// WorkerConcurrency caps the requests in flight that one worker process has with one model; 0 is no cap.
	WorkerConcurrency int `json:"worker_concurrency" yaml:"worker_concurrency"`
	// SDKWorkerParallelism is how many worker processes one machine of the engine starts.
	SDKWorkerParallelism int `json:"sdk_worker_parallelism" yaml:"sdk_worker_parallelism"`
	// EnvironmentCacheMillis keeps a worker process between stages. Above the engine's restart delay a
	// restarted job is given the dead worker again.
	EnvironmentCacheMillis int `json:"environment_cache_millis" yaml:"environment_cache_millis"`
	// Options are any other options of the job server, by their Beam names.
	Options map[string]string `json:"options" yaml:"options"`
	// StallAfter is how long a job may show no progress before it is cancelled and run again. It has to be
	// longer than the slowest answer of a model.
	StallAfter time.Duration `json:"stall_after" yaml:"stall_after"`
	// MaxReruns is how often a stalled job is run again.
	MaxReruns int `json:"max_reruns" yaml:"max_reruns"`

	Dataflow DataflowConfig `json:"dataflow" yaml:"dataflow"`
}

// DataflowConfig is what Dataflow needs besides an image.
type DataflowConfig struct {
	Project string `json:"project" yaml:"project"`
	Region  string `json:"region" yaml:"region"`
	// StagingBucket is gs://BUCKET[/PREFIX] for the worker's file, the job's description and temporary files.
	StagingBucket  string `json:"staging_bucket" yaml:"staging_bucket"`
	ServiceAccount string `json:"service_account" yaml:"service_account"`
	MachineType    string `json:"machine_type" yaml:"machine_type"`
	// Accelerator is a resource hint, as type:nvidia-l4;count:1;install-nvidia-driver.
	Accelerator string `json:"accelerator" yaml:"accelerator"`
	DiskGB      int64  `json:"disk_gb" yaml:"disk_gb"`
	Subnetwork  string `json:"subnetwork" yaml:"subnetwork"`
	// PublicIPs gives workers public addresses, which cost money and are not needed inside a network.
	PublicIPs bool `json:"public_ips" yaml:"public_ips"`
}

// Default suits a small cluster: one worker, ten minutes for a model's slowest answer and twice that again.
func Default() Config {
	return Config{Workers: 1, SDKWorkerParallelism: 1, EnvironmentCacheMillis: 500, StallAfter: 30 * time.Minute, MaxReruns: 2}
}

// Validate joins the faults that do not depend on the runner.
func (c Config) Validate() error {
	faults := settings.Of("engine")
	address := func(field, value string) {
		_, port, err := net.SplitHostPort(value)
		faults.Check(value == "" || err == nil && port != "", "%s: %q is not host:port, as localhost:8099", field, value)
	}
	address("endpoint", c.Endpoint)
	address("worker_pool", c.WorkerPool)
	if c.RestURL != "" {
		u, err := url.Parse(c.RestURL)
		faults.Check(err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"), "rest_url: not an http or https address; Flink's is http://HOST:8081")
		faults.Check(err != nil || u.User == nil, "rest_url: has a name or password in it; let a proxy add them")
	}
	faults.Check(c.Environment == "" || slices.Contains(Environments(), c.Environment), "environment: %q is none of %s", c.Environment, strings.Join(Environments(), ", "))
	for _, name := range slices.Sorted(maps.Keys(c.WorkerEnv)) {
		faults.Check(!secretive(name), "worker_env.%s: looks like a secret, and everything here can be read in the job's description; set it on the workers' machines", name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		faults.Check(!secretive(name), "options.%s: looks like a secret, and everything here can be read in the job's description; set it on the job server", name)
	}
	faults.Check(c.Parallelism >= 0 && c.Parallelism <= 10000, "parallelism: %d is not in 0..10000; 0 leaves it to the engine", c.Parallelism)
	faults.Check(c.Workers >= 1 && c.Workers <= 10000, "workers: %d is not in 1..10000", c.Workers)
	faults.Check(c.WorkerConcurrency >= 0, "worker_concurrency: %d is negative; 0 is no cap", c.WorkerConcurrency)
	faults.Check(c.SDKWorkerParallelism >= 1 && c.SDKWorkerParallelism <= 256, "sdk_worker_parallelism: %d is not in 1..256", c.SDKWorkerParallelism)
	faults.Check(c.EnvironmentCacheMillis >= 0, "environment_cache_millis: %d is negative; 0 ends workers with their stage", c.EnvironmentCacheMillis)
	faults.Check(c.StallAfter >= time.Second, "stall_after: %s is under a second; it has to be longer than a model's slowest answer, as 30m", c.StallAfter)
	faults.Check(c.MaxReruns >= 0 && c.MaxReruns <= 2, "max_reruns: %d is not in 0..2", c.MaxReruns)
	faults.Check(c.Dataflow.DiskGB >= 0, "dataflow.disk_gb: %d is negative; 0 leaves it to Dataflow", c.Dataflow.DiskGB)
	b := c.Dataflow.StagingBucket
	faults.Check(b == "" || strings.HasPrefix(b, "gs://") && len(b) > len("gs://"), "dataflow.staging_bucket: %q is not gs://BUCKET", b)
	return faults.Err()
}

func secretive(name string) bool {
	name = strings.ToUpper(name)
	for _, word := range []string{"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// Check says what runner needs and c lacks; it takes a Config that Validate and For passed.
func (c Config) Check(runner string) error {
	var errs []error
	need := func(value, field, what string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("engine.%s: empty, and --runner %s needs %s", field, runner, what))
		}
	}
	switch runner {
	case Direct:
		return nil
	case Prism:
		if c.Endpoint == "" {
			return nil
		}
	case Flink:
		need(c.Endpoint, "endpoint", "the job server's address, as localhost:8099 (not Flink's 8081)")
		need(c.RestURL, "rest_url", "Flink's REST address, as http://localhost:8081: nothing else stops a job")
	case Spark:
		need(c.Endpoint, "endpoint", "the job server's address, as localhost:8099")
	case Dataflow:
		need(c.Image, "image", "the workers' image: build one from runners/container and push it")
		need(c.Dataflow.Project, "dataflow.project", "a project")
		need(c.Dataflow.Region, "dataflow.region", "a region, as europe-west4")
		need(c.Dataflow.StagingBucket, "dataflow.staging_bucket", "a bucket, as gs://BUCKET/promptmill")
		if c.Environment != Docker {
			errs = append(errs, fmt.Errorf("engine.environment: %s, but Dataflow starts containers; leave it out or write docker", c.Environment))
		}
		return errors.Join(errs...)
	}
	switch c.Environment {
	case External:
		need(c.WorkerPool, "worker_pool", "the address of the pool on each machine, as localhost:50000 (start it with promptmill worker-pool)")
	case Docker:
		need(c.Image, "image", "the workers' image for environment docker")
	}
	return errors.Join(errs...)
}

// For fills in what c leaves to the runner and to whether a model wants a GPU.
func (c Config) For(runner string, gpu bool) Config {
	switch {
	case c.Environment != "":
	case runner == Dataflow:
		c.Environment = Docker
	case runner == Prism && c.Endpoint == "", runner == Direct:
		c.Environment = Loopback
	case gpu:
		c.Environment = External // one copy of a model a machine, kept between stages
	default:
		c.Environment = Process
	}
	if runner == Spark {
		c.EnvironmentCacheMillis = 0 // kept, a task that is tried again is given its dead worker
	}
	if c.InProcess(runner) || c.Environment == Loopback {
		c.Workers = 1
	}
	return c
}

// InProcess says whether runner needs no job server.
func (c Config) InProcess(runner string) bool {
	return runner == Direct || runner == Prism && c.Endpoint == ""
}

// Share is a worker's part of a limit of requests in flight that all of them share: it is the limit over
// Workers, rounded down, so that together they never exceed it. 0 is no limit, where limit is 0 and no
// cap is set. A limit below Workers has no such part: that is an error.
func (c Config) Share(limit int) (int, error) {
	switch {
	case limit == 0:
		return c.WorkerConcurrency, nil
	case limit < c.Workers:
		return 0, fmt.Errorf("%d requests at once cannot be divided over the %d workers of engine.workers; raise it or run fewer workers", limit, c.Workers)
	case c.WorkerConcurrency > 0:
		return min(limit/c.Workers, c.WorkerConcurrency), nil
	}
	return limit / c.Workers, nil
}
