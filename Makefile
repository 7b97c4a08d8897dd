# Tasks of the project; `make` alone lists them. All set themselves up in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= executor:$(VERSION)
API_IMAGE ?= executor-api:$(VERSION)
NUMPY_IMAGE ?= executor-numpy:$(VERSION)
NAMESPACE ?= executor

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $(READY)

.PHONY: setup
setup: $(READY)  ## Create .venv with the project and its tools

.PHONY: run
run: $(READY)  ## Serve the API on this machine, execute one call through it, show the answer
	$(BIN)/python scripts/first_call.py

.PHONY: serve
serve: $(READY)  ## Serve the API on this machine until Ctrl-C
	$(BIN)/executor-api serve

.PHONY: test
test: $(READY)  ## Run the tests that need no cluster
	$(BIN)/pytest -m 'not cluster'

CLUSTER_TESTS = EXECUTOR_TEST_IMAGE=$(IMAGE) EXECUTOR_TEST_API_IMAGE=$(API_IMAGE) \
	EXECUTOR_TEST_NUMPY_IMAGE=$(NUMPY_IMAGE) EXECUTOR_TEST_NAMESPACE=$(NAMESPACE) $(BIN)/pytest

.PHONY: test-cluster
test-cluster: $(READY)  ## Run the tests against the cluster of $KUBECONFIG; its nodes need the images
	$(CLUSTER_TESTS) -m cluster

.PHONY: endings
endings: $(READY)  ## Print the table of endings: local, and on the cluster if there is a $KUBECONFIG
	EXECUTOR_TEST_IMAGE=$(IMAGE) $(BIN)/pytest tests/endings

.PHONY: lint
lint: $(READY)  ## Check style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(READY)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LABELS = --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD)

.PHONY: image
image: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
image:  ## Build the images of the service, of sandboxes and of the example with docker
	docker build $(LABELS) --tag $(API_IMAGE) --file images/api/Dockerfile .
	docker build $(LABELS) --tag $(IMAGE) images/executor
	docker build --build-arg EXECUTOR=$(IMAGE) --tag $(NUMPY_IMAGE) images/examples/numpy

.PHONY: manifests
manifests: $(READY)  ## Write anew what is made from the chart: install.yaml, its schema and table, the renders of its tests
	PYTHONPATH=tests $(BIN)/python -m chart.generated

# (call image-values,VALUE,IMAGE): the chart's values of an image, REPOSITORY:TAG
tag = $(lastword $(subst :, ,$(1)))
image-values = --set-string $(1).repository=$(patsubst %:$(call tag,$(2)),%,$(2)),$(1).tag=$(call tag,$(2))

.PHONY: install
install:  ## Install the chart on the cluster of $KUBECONFIG and make its test call; its nodes need the images
	helm upgrade --install executor charts/executor --namespace $(NAMESPACE) --create-namespace --wait --timeout 3m \
		$(call image-values,image,$(API_IMAGE)) $(call image-values,sandbox.image,$(IMAGE)) $(VALUES)
	helm test executor --namespace $(NAMESPACE)

KIND_URL := http://127.0.0.1:30080

.PHONY: kind
kind: export KUBECONFIG := $(CURDIR)/build/kind.kubeconfig
kind: $(READY) image  ## Make a cluster with kind, install the chart on it, run tests through its Service
	mkdir -p build
	kind get clusters --quiet | grep -qx executor || kind create cluster --config kind-config.yaml --wait 2m
	kind get kubeconfig --name executor > $$KUBECONFIG
	kind load docker-image --name executor $(API_IMAGE) $(IMAGE) $(NUMPY_IMAGE)
	kubectl --namespace $(NAMESPACE) rollout restart deployment/executor 2>/dev/null || true  # it is there: take the new image
	$(MAKE) install VALUES='--set service.type=NodePort --set service.nodePort=30080'
	EXECUTOR_TEST_URL=$(KIND_URL) $(CLUSTER_TESTS) tests/cluster/test_installed.py tests/cluster/test_images.py
	@echo "It serves at $(KIND_URL); KUBECONFIG=$$KUBECONFIG; 'kind delete cluster --name executor' ends it"

.PHONY: release-tools
release-tools: $(READY)
	$(BIN)/pip install --quiet --editable '.[release]'

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock'

.PHONY: lock
lock: release-tools  ## Pin what the images install, with hashes; `make lock UPGRADE=--upgrade` takes newer versions
	$(LOCK) $(UPGRADE) --extra auth --extra gpu --extra kubernetes --extra postgres --extra tracing --output-file images/api/requirements.lock pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
		| $(LOCK) $(UPGRADE) --output-file images/api/build.lock -
	$(LOCK) $(UPGRADE) --output-file images/examples/numpy/requirements.lock images/examples/numpy/requirements.in

.PHONY: audit
audit: release-tools  ## Look up known vulnerabilities of what is locked; needs the network
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement images/api/requirements.lock \
		--requirement images/api/build.lock --requirement images/examples/numpy/requirements.lock

.PHONY: bench
bench: $(READY)  ## Measure single calls on this machine beside subprocess.run
	PYTHONPATH=tests $(BIN)/python benchmarks/speed.py

.PHONY: bench-cluster
bench-cluster: $(READY)  ## Measure cold calls on the cluster of $KUBECONFIG beside a bare Pod
	PYTHONPATH=tests $(BIN)/python benchmarks/speed.py --backend kubernetes --calls 30 --image $(IMAGE)

.PHONY: bench-pool
bench-pool: $(READY)  ## Load a warm pool on the cluster of $KUBECONFIG: latency, bursts, arrivals, writes
	PYTHONPATH=tests $(BIN)/python benchmarks/load.py W1 W7 --backend kubernetes --image $(IMAGE) --pool 10 --batch 10
	PYTHONPATH=tests $(BIN)/python benchmarks/load.py W2 W3 W4 W5 --backend kubernetes --image $(IMAGE) --pool 20 --pause 0.6

.PHONY: bench-reuse
bench-reuse: $(READY)  ## Load sandboxes that one tenant reuses: local, and on the cluster if there is a $KUBECONFIG
	PYTHONPATH=tests $(BIN)/python benchmarks/load.py W6
	test -z "$$KUBECONFIG" || PYTHONPATH=tests $(BIN)/python benchmarks/load.py W6 --backend kubernetes --image $(IMAGE)

.PHONY: bench-replicas
bench-replicas: $(READY)  ## Load four replicas on the cluster of $KUBECONFIG, kill the leader twice, count double use
	PYTHONPATH=tests $(BIN)/python benchmarks/replicas.py --start 4 --kill-leader 2 --image $(IMAGE)

.PHONY: bench-faults
bench-faults: $(READY)  ## Make faults under load on the cluster of $KUBECONFIG: calls lost, sandboxes made for nothing
	PYTHONPATH=tests $(BIN)/python benchmarks/faults.py --image $(IMAGE)

.PHONY: bench-tenants
bench-tenants: $(READY)  ## Measure on this machine what one tenant's flood does to another's calls
	PYTHONPATH=tests $(BIN)/python benchmarks/tenants.py

.PHONY: bench-hostile
bench-hostile: $(READY)  ## Measure on this machine what hostile clients do to good calls
	PYTHONPATH=tests $(BIN)/python benchmarks/hostile_clients.py

.PHONY: bench-monitor
bench-monitor: $(READY)  ## Measure what the process monitor costs at 30,000 processes, one of which blocks its readers
	PYTHONPATH=tests $(BIN)/python benchmarks/monitor.py

.PHONY: bench-tracing
bench-tracing: $(READY)  ## Measure what tracing costs a call, with a collector that answers and with one that doesn't
	PYTHONPATH=tests $(BIN)/python benchmarks/tracing.py

.PHONY: bench-threads
bench-threads: $(READY)  ## Run tools under 30 threads, with subprocess.run and with Executor.local(): what is left of each
	PYTHONPATH=tests $(BIN)/python benchmarks/tool_threads.py

.PHONY: incident
incident: $(READY)  ## Make the incident anew at 1:10, count, alert, clean up; then the same calls through Executor.local()
	PYTHONPATH=tests $(BIN)/python benchmarks/incident.py

.PHONY: fuzz
fuzz: $(READY)  ## Send 10,000 requests made from the OpenAPI document, and hold the answers against it
	EXECUTOR_FUZZ_CASES=10000 EXECUTOR_FUZZ_SEED=$$(date +%s) $(BIN)/pytest -rP tests/fuzz

.PHONY: bench-rollout
bench-rollout: $(READY)  ## Upgrade, roll back and drain the chart under load on the cluster of $KUBECONFIG: calls lost
	EXECUTOR_TEST_IMAGE=$(IMAGE) PYTHONPATH=tests $(BIN)/python benchmarks/rollout.py

.PHONY: soak
soak: $(READY)  ## Run 10,000 calls on this machine and count what is left
	PYTHONPATH=tests $(BIN)/python benchmarks/leftovers.py

.PHONY: soak-cluster
soak-cluster: $(READY)  ## Run 300 calls on the cluster of $KUBECONFIG and count what is left
	PYTHONPATH=tests $(BIN)/python benchmarks/leftovers.py --backend kubernetes --calls 300 --at-once 4 --image $(IMAGE)
