# The commands of the README. `make test` and `make demo` do all the set-up on a fresh machine.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# A third of the tests' time is waiting: for sound, processes, servers. A process more than there are cores, four at most;
# a file of tests in one of them.
BESIDE = -n $(shell $(PY) -c "import os; print(min(4, os.cpu_count() + 1))") --dist loadfile

.PHONY: setup test test-long test-peer lint demo docs nano wheels clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tools/setup.sh
	bash tools/setup.sh $(VENV)
	touch $(STAMP)

test: $(STAMP)
	$(PY) -m pytest $(BESIDE) -p tests.support.cpu_times --durations=15 -m "not long and not peer"

test-long: $(STAMP)
	$(PY) -m pytest -m long --timeout=1800

test-peer: $(STAMP)
	bash tools/peer_env.sh .venv-peer
	PEER_PYTHON=$(CURDIR)/.venv-peer/bin/python $(PY) -m pytest -m peer --timeout=1200

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PY)
	$(VENV)/bin/lint-imports

demo: $(STAMP)
	$(PY) -m app.cli demo

# The API reference, made of the docstrings, without a network: build/api/index.html
docs: $(STAMP)
	$(PY) -m tools.api_reference build/api

# Trains the embedded model anew: make nano WORK=folder
nano:
	@[ -n "$(WORK)" ] || { echo "say where: make nano WORK=folder" >&2; exit 1; }
	bash tools/nano/environment.sh "$(WORK)/environment"
	bash tools/nano/train.sh "$(WORK)" "$(WORK)/environment/bin/python"

wheels: $(STAMP)
	bash tools/check_wheels.sh

clean:
	rm -rf $(VENV) .venv-peer build dist *.egg-info
