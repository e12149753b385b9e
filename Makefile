# The verbs of this repository. Bare `make` runs what CI runs. Each verb sets up what it needs first (.venv in this
# folder, the native engine where there is a Rust) and does nothing twice. ARGS go to pytest or to the demo:
#     make check ARGS='-k schedule'

# The first Python that is new enough; with none, python3, so that the bootstrap can say what to install.
PYTHON ?= $(or $(shell for p in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done),python3)

.DEFAULT_GOAL := test
.PHONY: test check demo setup build docs bench lock clean help

test:   ## everything CI runs: lint, types, Rust, all tests
	@$(PYTHON) scripts/bootstrap.py test $(ARGS)

check:  ## the quick part: lint, types, fast tests
	@$(PYTHON) scripts/bootstrap.py check $(ARGS)

demo:   ## the main job on a small shop of our own: page, report and raw data stay
	@$(PYTHON) scripts/bootstrap.py demo $(ARGS)

setup:  ## .venv with everything that developing needs
	@$(PYTHON) scripts/bootstrap.py setup

build:  ## the wheel and the source distribution, into dist/
	@$(PYTHON) scripts/bootstrap.py build

docs:   ## docs/reference: what is written from the code
	@$(PYTHON) scripts/bootstrap.py docs

bench:  ## what a request costs each engine and how true it is: writes docs/reference/benchmarks.md
	@$(PYTHON) scripts/bootstrap.py bench

lock:   ## requirements/*.txt: the newest versions that pyproject.toml allows, pinned
	@$(PYTHON) scripts/bootstrap.py lock

clean:  ## removes what the verbs above made, runs excepted
	rm -rf .venv target dist .mypy_cache .ruff_cache .pytest_cache src/surgeline/_engine*.so

help:   ## this list
	@grep -E '^[a-z]+: .*## ' Makefile | sed -E 's/^([a-z]+):[^#]*## /  \1\t/'
