# promptmill: `make demo` runs the whole loop on the tiny models, `make test` the tests. Needs Go and a C compiler, and pip or npm once.
GO      ?= go
OUT     ?= demo-out
STUDY   ?= study-out
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: setup tiny build demo study test test-formats test-trainers test-engines lint fmt bench golden

setup: build ## fetch the modules that this platform needs, and ONNX Runtime by pip or npm
	$(GO) list -deps -test ./... >/dev/null
	bin/promptmill doctor --install

build: ## bin/promptmill
	$(GO) build -o bin/promptmill ./cmd/promptmill

demo: build ## the whole loop on the tiny models; without ONNX Runtime, pairs of the procedural ones
	-@bin/promptmill doctor --install >&2
	bin/promptmill demo --out $(OUT)

study: build ## the loop's settings chosen on the tiny models and tested, three seeds each; longer; writes docs/study
	bin/promptmill doctor --install >&2
	bin/promptmill study --recipe settings --out $(STUDY)
	cat docs/study/prose.md $(STUDY)/study/settings/tables.md > docs/study/README.md
	cp $(STUDY)/study/settings/results.json docs/study/results.json

test: setup ## every test
	$(GO) test ./...

test-formats: build ## every set of the demo in datasets, pyarrow and DuckDB, in an environment of their own
	bench/formats/run.sh

test-trainers: build ## real TRL and LLaMA-Factory on tiny random models, on the CPU; fetches about 12 GB once
	model/trainers/command/testdata/test_trainers.sh

test-engines: ## the same rows in process, on a separate job server and on a real standalone Flink, whatever is killed; needs a JDK, Maven, pip
	$(GO) test -tags engines -count=1 -timeout 40m -run 'TestEngines|TestSparkScript|TestFlink' -v ./cmd/promptmill

tiny: setup ## train the embedded models from nothing into tiny-out (about an hour on one core) and measure them
	bin/promptmill tiny train --out tiny-out
	bin/promptmill tiny evaluate --from tiny-out

lint: ## golangci-lint with .golangci.yml
	$(LINT) run ./...

fmt:
	$(LINT) fmt ./...

bench: build ## measured work: HTTP saturation and memory, rewrite pairs to Parquet, the hot paths
	$(GO) run ./bench

golden: ## rewrite the golden files: read the diff, it is a schema change
	$(GO) test ./schemas ./recipe ./cmd/promptmill -update
