// Package kubernetes_test checks the manifests of this folder.
package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// manifest decodes every document of a file into the type that it says it is; a field that the type does
// not have is a fault, which kubectl would only warn of.
func manifest(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]any{}
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		data, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		var kind struct{ APIVersion, Kind string }
		if err := json.Unmarshal(data, &kind); err != nil {
			t.Fatal(err)
		}
		var object any
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 Namespace":
			object = &corev1.Namespace{}
		case "v1 ConfigMap":
			object = &corev1.ConfigMap{}
		case "v1 Service":
			object = &corev1.Service{}
		case "apps/v1 Deployment":
			object = &appsv1.Deployment{}
		default:
			t.Fatalf("%s: kind %s %s", file, kind.APIVersion, kind.Kind)
		}
		strict := json.NewDecoder(bytes.NewReader(data))
		strict.DisallowUnknownFields()
		if err := strict.Decode(object); err != nil {
			t.Fatalf("%s: %s: %v", file, kind.Kind, err)
		}
		name := kind.Kind
		if d, ok := object.(*appsv1.Deployment); ok {
			name = d.Name
		}
		objects[name] = object
	}
	return objects
}

func TestFlinkSession(t *testing.T) {
	objects := manifest(t, "flink-session.yaml")
	service := objects["Service"].(*corev1.Service)
	pinned := regexp.MustCompile(`:[0-9A-Z][^:]*$`)
	for _, name := range []string{"flink-jobmanager", "flink-taskmanager"} {
		d, ok := objects[name].(*appsv1.Deployment)
		if !ok {
			t.Fatalf("no deployment %s", name)
		}
		pod := d.Spec.Template
		for key, value := range d.Spec.Selector.MatchLabels {
			if pod.Labels[key] != value {
				t.Errorf("%s selects %s=%s, its pods have %q", name, key, value, pod.Labels[key])
			}
		}
		if pod.Spec.SecurityContext == nil || pod.Spec.SecurityContext.RunAsNonRoot == nil || !*pod.Spec.SecurityContext.RunAsNonRoot {
			t.Errorf("%s may run as root", name)
		}
		var volumes []string
		for _, v := range pod.Spec.Volumes {
			volumes = append(volumes, v.Name)
		}
		for _, c := range pod.Spec.Containers {
			if !pinned.MatchString(c.Image) {
				t.Errorf("%s: image %s has no version", c.Name, c.Image)
			}
			if c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s has no memory limit", c.Name)
			}
			for _, m := range c.VolumeMounts {
				if !slices.Contains(volumes, m.Name) {
					t.Errorf("%s mounts %s, and the pod has %v", c.Name, m.Name, volumes)
				}
			}
			for _, p := range c.Ports {
				if !slices.ContainsFunc(service.Spec.Ports, func(s corev1.ServicePort) bool { return s.Port == p.ContainerPort }) {
					t.Errorf("%s listens at %d, which the service does not have", c.Name, p.ContainerPort)
				}
			}
		}
	}
	pool := objects["flink-taskmanager"].(*appsv1.Deployment).Spec.Template.Spec.Containers[1]
	if gpus := pool.Resources.Limits["nvidia.com/gpu"]; gpus.Value() != 1 {
		t.Errorf("the worker pool has %s GPUs", gpus.String())
	}
	if !slices.Equal(pool.Args, []string{"worker-pool", "--listen", "localhost:50000"}) {
		t.Errorf("the sidecar runs %v", pool.Args)
	}
	for _, e := range pool.Env {
		if e.Value != "" {
			t.Errorf("%s stands in the manifest: %q", e.Name, e.Value)
		}
	}
}

// The cluster has what preflight asks for, the same as the local one.
func TestFlinkConfiguration(t *testing.T) {
	type settings struct {
		Restart struct {
			Type  string
			Fixed struct {
				Attempts int
				Delay    string
			} `yaml:"fixed-delay"`
		} `yaml:"restart-strategy"`
		Classes map[string]any `yaml:"classloader"`
	}
	local, err := os.ReadFile("../flink/conf/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(local), manifest(t, "flink-session.yaml")["ConfigMap"].(*corev1.ConfigMap).Data["config.yaml"]}
	var got [2]settings
	for i, text := range texts {
		if err := yaml.Unmarshal([]byte(text), &got[i]); err != nil {
			t.Fatal(err)
		}
		if s := got[i]; s.Restart.Type != "fixed-delay" || s.Restart.Fixed.Attempts != 10 || s.Restart.Fixed.Delay != "1 s" || s.Classes["resolve-order"] != "parent-first" {
			t.Errorf("%+v", s)
		}
	}
}
