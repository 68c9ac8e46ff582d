# `make app` brings up the page at http://127.0.0.1:7860; `make test` runs everything that is tested.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Passive waiting keeps PyTorch's threads from spinning against each other on small machines.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: app test lint chromium clean

app: $(VENV)/.installed
	$(BIN)/python app.py

test: $(VENV)/.test-installed chromium lint
	$(BIN)/python -m pytest -q

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or later is needed; install it, or set PYTHON=/path/to/it." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

chromium:
	@sh tests/browser/find_chromium.sh

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
