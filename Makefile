# promptmill: `make demo` runs the main job, `make test` the tests. Needs Go and a C compiler, nothing else.
GO      ?= go
OUT     ?= demo-out
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: setup build demo test test-trainers lint fmt bench golden

setup: ## fetch the modules that this platform needs
	$(GO) list -deps -test ./... >/dev/null

build: ## bin/promptmill
	$(GO) build -o bin/promptmill ./cmd/promptmill

demo: build ## the main job on 256 real prompts and the procedural models
	bin/promptmill preference --recipe demo --models scene --out $(OUT)

test: ## every test
	$(GO) test ./...

test-trainers: ## real TRL and LLaMA-Factory on tiny random models, on the CPU; fetches about 12 GB once
	model/trainers/command/testdata/test_trainers.sh

lint: ## golangci-lint with .golangci.yml
	$(LINT) run ./...

fmt:
	$(LINT) fmt ./...

bench: build ## measured work: HTTP saturation and memory, rewrite pairs to Parquet, the hot paths
	$(GO) run ./bench

golden: ## rewrite the golden files: read the diff, it is a schema change
	$(GO) test ./schemas ./recipe ./cmd/promptmill -update
