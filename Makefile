# Type `make` for the list of verbs. Needs Python 3.11-3.13 and make; everything else it fetches.
PYTHON ?= python3
PORT   ?= 8000

BIN    := .venv/bin
ENV    := .venv/.installed
PYTEST := $(BIN)/python -m pytest -q
SITE   := _build/html
CHAPTERS := book

# Notebooks print the same digits wherever they run: one thread, no progress bars.
export OMP_NUM_THREADS   := 1
export SBM_LITE_PROGRESS := 0
# Jupyter's next way of finding its folders, chosen now so that it does not warn.
export JUPYTER_PLATFORM_DIRS := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help book site pdf test lab notebooks claims bench soak pins clean \
    check-lint check-units check-claims check-notebooks check-browser check-lab

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

$(ENV): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed; choose one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $(ENV)

book: site ## build the book and serve it on localhost (PORT=8000)
	@echo "The book is at http://127.0.0.1:$(PORT)/ (Ctrl+C stops it)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE) >/dev/null 2>&1 \
	    || test $$? -gt 128 || { echo "Port $(PORT) is taken; try: make book PORT=8001"; exit 1; }

site: $(ENV) ## build the website into _build/html, warnings are errors
	@rm -rf $(SITE)
	$(BIN)/jupyter-book build . --all -W -n --keep-going --quiet

pdf: site ## print the whole book as one PDF, through an installed Chromium
	SBM_LITE_SITE=$(SITE) $(BIN)/python -m tools.pdf

test: check-lint check-units check-claims check-notebooks site check-browser ## check everything: lint, units, claims, notebooks, site, browser
	@printf '\nAll passed.\n'

check-lint: $(ENV)
	@printf '\n=== lint ===\n'
	$(BIN)/ruff check .
	$(BIN)/codespell

check-units: $(ENV)
	@printf '\n=== units: the package, the tools, the state of the notebooks ===\n'
	$(PYTEST) -n 2 --dist loadscope tests --ignore tests/claims --ignore tests/site --ignore tests/lab

check-claims: $(ENV)
	@printf '\n=== claims: every statement of the book that can be checked ===\n'
	$(PYTEST) -n 2 --dist loadscope tests/claims

check-notebooks: $(ENV)
	@printf '\n=== notebooks: run again, outputs compared ===\n'
	$(PYTEST) -n 2 --dist loadscope --nbval-lax --nbval-current-env --nbval-cell-timeout 120 $(CHAPTERS)

check-browser: $(ENV)
	@printf '\n=== browser: every page read, every explorable moved ===\n'
	SBM_LITE_SITE=$(SITE) $(PYTEST) -n 2 --dist loadscope tests/site

check-lab: $(ENV) # two minutes more; GitHub runs it in a job of its own
	@printf '\n=== JupyterLab, driven in a browser ===\n'
	$(PYTEST) tests/lab

lab: $(ENV) ## open the notebooks in JupyterLab
	@$(BIN)/jupyter trust book/*.ipynb >/dev/null
	$(BIN)/jupyter lab --config tools/lab/config.py

notebooks: $(ENV) ## run every notebook in a clean kernel and save its outputs
	$(BIN)/python -m tools.notebooks book/*.ipynb

claims: $(ENV) ## run the claims and write book/claims.md and book/errata.md
	$(BIN)/python -m tools.claims

bench: $(ENV) ## measure speed beside peers and limits, write benchmarks/RESULTS.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks

soak: $(ENV) # ten minutes of all live figures on one page: does memory stay flat?
	$(BIN)/python -m tools.soak

pins: # write constraints.txt anew; versions that still fit stay (delete a line to have its newest)
	$(PYTHON) -m venv _build/uv
	_build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@grep '^#' constraints.txt > _build/head; grep -v '^-c' requirements.txt > _build/requirements.in
	_build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra bench \
	    --extra images --no-header --no-annotate -o constraints.txt _build/requirements.in pyproject.toml
	@grep -vE '^(nvidia-|cuda-|triton)' constraints.txt | cat _build/head - > _build/constraints.txt
	@mv _build/constraints.txt constraints.txt

clean: ## remove what was built, the environment included
	rm -rf .venv _build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
