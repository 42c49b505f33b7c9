# Thin targets; the work is done in scripts/. Try `make help`.
#   ARGS=...    arguments for the command behind a target:  make run ARGS="--port 9000"
#   PYTHON=...  the interpreter a new environment is made with
#   VENV=...    the environment's folder (default .venv)

VENV ?= .venv
export VENV PYTHON

.DEFAULT_GOAL := help
.PHONY: help run test fuzz check format lock rows schema bench chaos test-engine test-clients wheel clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: ## install what the gateway needs and start it on port 8080
	@scripts/venv.sh run
	@exec $(VENV)/bin/tidegate serve $(ARGS)

test: ## install what tests need and run all of them (ARGS= goes to pytest)
	@scripts/venv.sh dev
	$(VENV)/bin/python -m pytest $(ARGS)

fuzz: ## run the property tests on new random examples (ARGS= goes to pytest)
	@scripts/venv.sh dev
	TIDEGATE_FUZZ=1 $(VENV)/bin/python -m pytest -m hypothesis $(ARGS)

check: ## lint, formatting, types, import direction, locks and documentation
	@scripts/venv.sh dev
	@scripts/check.sh

format: ## format the code and apply the safe fixes
	@scripts/venv.sh dev
	@$(VENV)/bin/ruff check --fix-only . && $(VENV)/bin/ruff format .

lock: ## write requirements/*.txt anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	@scripts/lock.sh $(ARGS)

rows: ## bring the row tables and the two matrices in docs/ in line with the tests that name rows
	@scripts/venv.sh dev
	@$(VENV)/bin/python -m scripts.rows --sync
	@$(VENV)/bin/python -m scripts.matrix --sync

schema: ## write the script of a new database from the migrations
	@scripts/venv.sh dev
	@$(VENV)/bin/python -m scripts.schema

bench: ## measure the gateway beside nginx and print the table with ratios
	@scripts/venv.sh dev
	@$(VENV)/bin/python -m bench $(ARGS)

chaos: ## let everything go wrong at once, by a seed, and judge what comes of it
	@scripts/venv.sh dev
	@$(VENV)/bin/python -m tests.chaos $(ARGS)

test-engine: ## install a real inference engine and drive it through the gateway
	@scripts/venv.sh dev
	@scripts/test-engine.sh $(ARGS)

test-clients: ## install Codex CLI and Claude Code and drive them through the gateway
	@scripts/venv.sh dev
	@scripts/test-clients.sh $(ARGS)

wheel: ## build dist/tidegate-*.whl
	@scripts/venv.sh run
	@scripts/wheel.sh

clean: ## remove the environment, caches and build products
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
