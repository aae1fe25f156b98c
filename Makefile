PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKPOINT := examples/checkpoint
.DEFAULT_GOAL := help

.PHONY: bench-record docs-performance help install demo test test-unit fuzz lint format serve k8s-render k8s-validate bench-overhead bench-nano bench-overlap bench-recovery bench-storm bench-soak chaos bench-autoscaling bench-autoscaling-real bench-order bench-order-record monitoring-proof openapi clean bench-defence nano world-eval nano-sheet

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv with the pinned dependencies

# Plain path entries (compat): the default editable install lets a stranger's `model` win silently.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV), which takes a few minutes"; $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt --config-settings editable_mode=compat -e '.[dev]'
	@touch $@

$(CHECKPOINT): | $(STAMP)
	$(BIN)/python -m model.checkpoint.synthetic $@ --seed 0

demo: $(STAMP) ## Make out/demo.mp4 from the examples on this machine's CPU
	$(BIN)/lingbot-serve generate --config examples/nano.yaml --image examples/image.png \
	  --prompt-file examples/prompt.txt --camera examples/camera --seed 0 --output out/demo.mp4

UNIT_TESTS := $(BIN)/pytest --numprocesses logical --maxprocesses 8 --dist loadfile tests/unit
test: $(STAMP) ## Run the unit and integration tests
	$(UNIT_TESTS)
	$(BIN)/pytest tests/integration

test-unit: $(STAMP) ## Run the unit tests alone
	$(UNIT_TESTS)

FUZZ_EXAMPLES ?= 5000
fuzz: $(STAMP) ## Send the API much that is wrong (FUZZ_EXAMPLES=5000 of each kind)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest --timeout 0 tests/unit/test_fuzz.py

lint: $(STAMP) ## Check style, types and import directions
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

serve: $(STAMP) ## Serve examples/nano on http://127.0.0.1:8000
	$(BIN)/lingbot-serve serve --config examples/nano.yaml

k8s-render: $(STAMP) ## Write the overlays' serve-config.yaml from examples/
	$(BIN)/python -m k8s.serve_configs

CRDS ?= ../shared/schemas
k8s-validate: $(STAMP) ## Render every overlay and hold it against schemas and rules (CRDS=folder of CRDs)
	$(BIN)/python -m k8s.validate --crds $(CRDS)

bench-overhead: $(STAMP) ## Measure what serving adds to the models' own time
	$(BIN)/python -m benchmarks.overhead

bench-nano: $(STAMP) ## Measure a whole request of examples/nano on this machine's CPU
	$(BIN)/python -m benchmarks.nano

bench-defence: $(STAMP) ## Measure what decoding apart and hashing weights cost
	$(BIN)/python -m benchmarks.defence

bench-overlap: $(STAMP) ## Measure how well requests overlap
	$(BIN)/python -m benchmarks.overlap

bench-autoscaling: $(STAMP) ## Simulate the scaling policies against each other
	$(BIN)/python -m benchmarks.autoscaling

bench-autoscaling-real: $(STAMP) ## Run and simulate one trace on a local Ray Serve
	$(BIN)/python -m benchmarks.autoscaling_real work
	$(BIN)/python -m benchmarks.autoscaling_real requests
	$(BIN)/python -m benchmarks.autoscaling_real report

bench-order: $(STAMP) ## Replay the recorded trace in the cost-aware order and first come first served
	$(BIN)/python -m benchmarks.order report

bench-order-record: $(STAMP) ## Record that trace anew, on a local Ray Serve
	$(BIN)/python -m benchmarks.order record

bench-recovery: $(STAMP) ## Measure how fast a gang comes back
	$(BIN)/python -m benchmarks.recovery

chaos: $(STAMP) ## Strike every part of the service under jobs in every state (needs PostgreSQL)
	$(BIN)/python -m benchmarks.chaos $(CHAOS)

bench-storm: $(STAMP) ## Send one request a thousand times at once
	$(BIN)/python -m benchmarks.storm

bench-soak: $(STAMP) ## Poll and download with 200 clients for 15 minutes
	$(BIN)/python -m benchmarks.soak

bench-record: $(STAMP) ## Measure what docs/performance.md tells of, on this host's GPUs
	PYTHON=$(BIN)/python benchmarks/record.sh

docs-performance: $(STAMP) ## Write docs/performance.md and the README's figures from docs/benchmarks
	$(BIN)/lingbot-serve bench report

openapi: $(STAMP) ## Write docs/openapi.json from the routes
	$(BIN)/python -m deployments.api.export docs/openapi.json

monitoring-proof: $(STAMP) $(CHECKPOINT) ## Show that every panel and rule returns data (needs prometheus)
	$(BIN)/python -m benchmarks.monitoring_proof

RUNS ?= /tmp/lingbot-world-nano
NANO := $(BIN)/python -m model.nano
nano: $(STAMP) ## Train RUNS/nano from nothing on this host's GPU (RUNS=folder; goes on where it was cut off)
	$(NANO) data $(RUNS)/data
	$(NANO) vae $(RUNS)/data $(RUNS)/vae.pt --resume
	$(NANO) encode $(RUNS)/data $(RUNS)/vae.pt $(RUNS)/latents
	$(NANO) dit $(RUNS)/latents $(RUNS)/dit.pt --resume
	$(NANO) export $(RUNS)/latents $(RUNS)/vae.pt $(RUNS)/dit.pt $(RUNS)/nano

SEED ?= 0
MODEL ?= examples/nano
world-eval: $(STAMP) ## Judge MODEL=examples/nano on worlds drawn from SEED, as one JSON object
	@$(NANO) evaluate $(MODEL) --seed $(SEED)

nano-sheet: $(STAMP) ## Write docs/nano.jpg, the renderer's frames above those of examples/nano
	$(NANO) sheet examples/nano docs/nano.jpg

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(CHECKPOINT) out build dist *.egg-info
