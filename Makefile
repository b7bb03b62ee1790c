# The words of the house. Each makes what it needs; REGISTRYD_VENV names another environment.
VENV ?= $(or $(REGISTRYD_VENV),.venv)
PYTHON = $(VENV)/bin/python
PARTS = $(or $(REGISTRYD_PARTS),.parts)
CODE = cache registryd tests bench scripts
ARGS ?=

.PHONY: help run test check cover docs bench kills dist deb image clean

help:
	@echo 'make run    show registryd at work            (ARGS="...": for the demonstration)'
	@echo 'make test   everything that must be green     (ARGS="...": for pytest)'
	@echo 'make check  format, lint, types and floors: no test of behaviour'
	@echo 'make cover  the tests, and which lines and branches they reach'
	@echo 'make docs   the pages as a site, in build/site'
	@echo 'make bench  how fast it is, against others     (ARGS="--quick")'
	@echo 'make kills  a daemon killed at every step     (ARGS="--kills 1000 --seed 1")'
	@echo 'make dist   wheel and source archive, in dist/'
	@echo 'make deb    the Debian package, in dist/'
	@echo 'make image  the image of registryd itself, in dist/ (as root)'
	@echo 'make clean  take away what the above have left, except .venv and .parts'

run:
	scripts/run $(ARGS)

test:
	scripts/test $(ARGS)

check:
	scripts/setup.sh --dev
	$(PYTHON) -m ruff format --check $(CODE)
	$(PYTHON) -m ruff check $(CODE)
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q tests/test_floors.py

# The gate is for branches and lines together; it only ever goes up.
cover:
	scripts/setup.sh --dev
	scripts/parts.sh
	. $(abspath $(PARTS))/env && $(PYTHON) -m pytest --cov --cov-report=term --cov-fail-under=90 $(ARGS)

docs:
	scripts/setup.sh --dev
	$(PYTHON) -m sphinx --quiet --fail-on-warning --keep-going -c docs -d build/trees . build/site
	@echo build/site/docs/index.html

bench:
	scripts/setup.sh --dev
	scripts/parts.sh
	. $(abspath $(PARTS))/env && $(PYTHON) -m bench.all $(ARGS)

kills:
	scripts/setup.sh --dev
	scripts/parts.sh
	. $(abspath $(PARTS))/env && $(PYTHON) -m tests.kills $(ARGS)

dist deb image:
	scripts/$@.sh

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .run build dist *.egg-info .coverage*
	find cache registryd tests bench scripts -name __pycache__ -prune -exec rm -rf {} +
