# LVM-AI: every command of the project. `make env` installs what users need, `make dev` also what
# checks and tests need; both are incremental, and everything else goes through them.
PYTHON ?= python3.11
VENV := .venv
ENGINES := .venv-engines
BIN := $(VENV)/bin
LOCK ?= requirements-cpu.txt
DEV_LOCK := requirements-dev.txt
# Processes of the tests: one a core, each takes up to 2 GB.
WORKERS ?= 2
STAMP := $(VENV)/.installed-$(LOCK)
DEV_STAMP := $(VENV)/.installed-$(DEV_LOCK)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: env dev browser demo check quick format lint types test check-slow check-engines engines bundle \
  flink-job-server spark-job-server bench bench-ingest bench-statistics scaling train-demo demo-model-card docs lock clean

env: $(STAMP)

dev: $(DEV_STAMP) browser

# Tests look at the report in Chromium and skip without it; it is installed where that is allowed.
browser:
	@for name in chromium chromium-browser google-chrome; do \
	  command -v $$name >/dev/null 2>&1 && exit 0; done; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1; then \
	  echo "installing chromium for the tests of the report"; \
	  timeout 300 sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	    chromium" >/dev/null 2>&1 || echo "chromium could not be installed: these tests will skip"; \
	fi

# The pins are complete, so nothing is left to resolve: pip's resolver looks at newer releases of what
# is pinned with an extra, and then refuses them for want of a hash.
$(STAMP): $(LOCK) setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-deps --require-hashes -r $(LOCK)
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(PIP) check
	@rm -f $(VENV)/.installed-*
	@touch $@

$(DEV_STAMP): $(DEV_LOCK) $(STAMP)
	$(PIP) install --quiet --no-deps --require-hashes -r $(DEV_LOCK)
	$(PIP) check
	@touch $@

demo: env
	$(BIN)/lvm-ai demo demo-output --overwrite

check: lint types test

FAST := -m "not slow and not engines and not benchmark" -n $(WORKERS) --dist worksteal
# They cover every line of lvm_core. The others run without: counting lines makes them 1.4 times
# slower.
TESTS_OF_CORE := tests/lvm_core tests/test_people_tables.py tests/beam_jobs/run/test_participants.py

# The loop while you write: format and lint what is there, types of the changed files, and tests of
# one folder (TESTS=tests/lvm_core/formats) or, without TESTS, of the changed files. Under a minute.
quick: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	@files=$$($(BIN)/python -m tests.quick files | grep -v '^tests/'); \
	  test -z "$$files" || $(BIN)/mypy $$files
	@tests="$${TESTS:-$$($(BIN)/python -m tests.quick tests)}"; \
	  if test -z "$$tests"; then echo "no tests of what changed; name a folder: make quick TESTS=tests/lvm_core/formats"; \
	  else $(BIN)/python -m pytest -q $(FAST) $$tests; fi

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: dev
	$(BIN)/mypy

test: dev
	$(BIN)/python -m pytest $(FAST) $(TESTS_OF_CORE) \
	  --cov=lvm_core --cov-report=term:skip-covered --cov-fail-under=100
	$(BIN)/python -m pytest $(FAST) tests $(foreach path,$(TESTS_OF_CORE),--ignore=$(path))

check-slow: dev
	$(BIN)/python -m pytest -m slow

# Real clusters and workflow engines on this machine, in about an hour; what is not installed is
# skipped with a reason. `make engines` installs all that can be had.
check-engines: dev
	$(BIN)/python -m pytest -m engines
	test ! -x .venv-dataflow/bin/python || .venv-dataflow/bin/python -m pytest -m engines \
	  tests/beam_jobs/engines/test_dataflow_job.py

# Flink, Spark, Nextflow, Snakemake, miniwdl, DNAnexus' tools, Google's clients, a server of S3 (needs
# Go); Slurm and builders of images where Debian packages may be installed.
engines: dev flink-job-server spark-job-server
	test -x $(ENGINES)/bin/python || $(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes \
	  -r requirements-engines.txt
	mvn --quiet --batch-mode --file deploy/nextflow/pom.xml dependency:copy-dependencies \
	  -DoutputDirectory=$(CURDIR)/build/nextflow
	GOBIN=$(CURDIR)/build/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
	$(MAKE) env VENV=.venv-dataflow LOCK=requirements-dataflow.txt
	@if test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends slurm-wlm munge mmdebstrap buildah podman runc >/dev/null; \
	else echo "not root on Debian: Slurm and builders of images are not installed"; fi

# The job server of --runner flink, and Flink's own jars for a cluster on this machine; 380 MB in all.
flink-job-server: env
	mvn --quiet --batch-mode --file deploy/flink/pom.xml package
	$(PIP) install --quiet --no-deps --require-hashes --target .flink/cluster --upgrade \
	  -r deploy/flink/requirements.txt

# The same for --runner spark, with a Spark for a cluster on this machine; 640 MB in all.
spark-job-server: env
	mvn --quiet --batch-mode --file deploy/spark/pom.xml package
	$(PIP) install --quiet --no-deps --target deploy/spark/target/pyspark --upgrade pyspark==3.5.9

# One archive that installs LVM-AI where there is no internet: docs/running_in_enclaves.md.
bundle: env
	$(BIN)/python deploy/bundle/make_bundle.py --output build/bundle --python-version "$(PYTHON_VERSION)" \
	  --platform "$(PLATFORM)" --variant $(or $(VARIANT),cpu)

# About an hour on two cores; the peers are installed into an environment of their own. Writes
# docs/benchmarks.md and its picture.
bench:
	$(MAKE) env VENV=.venv-bench LOCK=requirements-bench.txt
	.venv-bench/bin/python -m tests.benchmarks.bench

# Ten minutes. Writes the section "Ingest" of docs/benchmarks.md.
bench-ingest: dev
	$(BIN)/python -m tests.benchmarks.bench_ingest

bench-statistics: dev
	$(BIN)/python -m tests.benchmarks.bench_statistics

# Simulates 10 million ECGs on many workers: docs/scaling.md and its picture, in some minutes.
scaling: dev
	$(BIN)/python -m tests.benchmarks.scaling_page

# About an hour on two cores. Keeps what is there: the same command goes on after an interruption.
train-demo: env
	test -f demo-training/cohort/truth.parquet || $(BIN)/lvm-ai simulate --participants 8000 \
	  --seed 20210601 --parquet --output demo-training/cohort
	for model in demo-synthetic demo-synthetic-ecg-only demo-synthetic-ecg-only-symmetric; do \
	  $(BIN)/lvm-ai train --config models/demo/$$model.yaml || exit 1; done
	rm -f models/demo/*.keras.xz
	$(BIN)/lvm-ai models convert demo-training/asymmetric/model.keras --storage float16 \
	  --name demo-synthetic --output models/demo/demo-synthetic.keras.xz
	$(BIN)/lvm-ai models convert demo-training/ecg-only/model.keras --storage float16 \
	  --name demo-synthetic-ecg-only --output models/demo/demo-synthetic-ecg-only.keras.xz

demo-model-card: env
	$(BIN)/python -m models.demo.model_card --full demo-training/asymmetric \
	  --asymmetric demo-training/ecg-only --symmetric demo-training/ecg-only-symmetric

docs: dev
	$(BIN)/python -m tests.generated_docs

# Writes the files of pins anew. One file cannot hold tensorflow and tensorflow-cpu: they own the
# same files. The developers' pins are those that the run time does not have already.
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --allow-unsafe \
  --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: dev
	$(COMPILE) --extra cpu -o requirements-cpu.txt setup.py
	$(COMPILE) --extra gpu -o requirements-gpu.txt setup.py
	$(COMPILE) --extra cpu --extra dev -c requirements-cpu.txt -o build-pins.txt setup.py
	awk 'NR == FNR { if (/^[^ #]/) runtime[$$1]; next } /^[^ ]/ { drop = $$1 in runtime } !drop' \
	  requirements-cpu.txt build-pins.txt > $(DEV_LOCK)
	rm build-pins.txt
	$(COMPILE) --extra cpu --extra bench -c requirements-cpu.txt -o requirements-bench.txt setup.py
	$(COMPILE) --extra cpu --extra dev --extra dataflow -c requirements-cpu.txt -c $(DEV_LOCK) \
	  -o requirements-dataflow.txt setup.py
	$(COMPILE) -o requirements-engines.txt requirements-engines.in

clean:
	rm -rf demo-output build *.egg-info .mypy_cache .pytest_cache .ruff_cache
