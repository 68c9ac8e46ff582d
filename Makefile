# `make app` brings up the page at http://127.0.0.1:7860; `make test` runs everything that is tested.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Passive waiting keeps PyTorch's threads from spinning against each other on small machines.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: app test lint chromium space clean

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

# make space SPACE=you/aia-lens, once `.venv/bin/hf auth login` knows you. What is committed goes up as files, not by
# git push: the Hub refuses pushes with pictures and weights that are not in its own storage.
space: $(VENV)/.installed
	@test -n "$(SPACE)" || { echo "Expected the Space to upload to: make space SPACE=you/aia-lens" >&2; exit 1; }
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && git archive HEAD | tar -x -C "$$folder" && \
	  $(BIN)/hf repos create "$(SPACE)" --type space --sdk gradio --exist-ok && \
	  $(BIN)/hf upload "$(SPACE)" "$$folder" . --type space --delete "*" --commit-message "$$(git log -1 --format=%s)"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
