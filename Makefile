# One virtual environment, made and filled on first use and again whenever pyproject.toml or the lock changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := $(wildcard requirements.lock)

export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-unit test-integration test-e2e test-faults chaos check check-code check-migrations check-deployment audit format lock clean

help: ## What there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.11 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing (Debian: apt install python3-venv)"; exit 1; }

$(STAMP): pyproject.toml $(LOCK) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' $(LOCK:%=--constraint %)
	@touch $@

install: $(STAMP) ## Make the environment

demo: $(STAMP) ## See the whole service work on this machine (under two minutes after installation)
	$(BIN)/unlearn demo $(ARGS)

up: $(STAMP) ## Run the whole service here until Ctrl-C (ARGS="--port 8080")
	$(BIN)/unlearn up $(ARGS)

test: $(STAMP) ## Every test, on real Postgres, Redis and S3 protocol
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-unit: $(STAMP) ## Tests without I/O
	$(BIN)/python -m pytest tests/unit $(ARGS)

test-integration: $(STAMP) ## Tests on real servers, and of the HTTP contract
	$(BIN)/python -m pytest tests/integration tests/contract $(ARGS)

test-e2e: $(STAMP) ## Real processes, from request to published weights
	$(BIN)/python -m pytest tests/e2e $(ARGS)

test-faults: $(STAMP) ## Real processes and servers, killed, stopped, cut off and filled up
	$(BIN)/python -m pytest tests/faults $(ARGS)

chaos: $(STAMP) ## Random faults under a service at work, for a while (ARGS="--minutes 5 --seed 1")
	$(BIN)/python -m tests.chaos $(ARGS)

check: check-code check-migrations check-deployment ## Everything static

check-code: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# On an embedded database of its own, gone afterwards.
check-migrations: $(STAMP)
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && UNLEARN_DATA_DIR="$$data" $(BIN)/python -m cli.schema

# The files for containers, with whichever tool is here; what is not here is said and skipped.
check-deployment: $(STAMP)
	@$(BIN)/python -m pytest -q --no-header tests/unit/cli/test_deployment.py
	@if docker compose version >/dev/null 2>&1; then compose="docker compose"; \
	elif command -v docker-compose >/dev/null; then compose=docker-compose; fi; \
	if [ -n "$$compose" ]; then \
		work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && cp docker-compose.yml "$$work" && \
		sed 's/^\([A-Z0-9_]*\)=$$/\1=checked-only-0123456789-0123456789-0123/' .env.example > "$$work/.env" && \
		$$compose --project-directory "$$work" -f "$$work/docker-compose.yml" --env-file "$$work/.env" \
			--profile gpu config --quiet && echo "docker-compose.yml: accepted by $$compose"; \
	else echo "docker-compose.yml: no compose here, skipped"; fi
	@if PATH="$(BIN):$$PATH" command -v hadolint >/dev/null; then PATH="$(BIN):$$PATH" hadolint Dockerfile && echo "Dockerfile: accepted by hadolint"; else echo "Dockerfile: no hadolint here, skipped"; fi

# Known vulnerabilities of what is locked fail it; what cannot be looked up is named and passed over.
audit: $(STAMP) ## Software bill of materials, and known vulnerabilities as far as they can be looked up
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --output-file build/sbom.json
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip --progress-spinner off --desc off || \
		{ curl -sf -o /dev/null --max-time 10 https://pypi.org/pypi/pip/json && exit 1 || echo "the database of vulnerabilities cannot be reached, skipped"; }

format: $(STAMP) ## Put code into the house form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Constraints from what is installed now; build tags such as +cpu are left out, for they name one machine's wheel.
lock: $(STAMP) ## Write requirements.lock from the environment
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > requirements.lock

clean: ## Remove the environment and all embedded data
	rm -rf $(VENV) .data
