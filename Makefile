# Everything a person does here. Each target does its own set-up, says what it installs, and is quick when that is done.
#   make demo                the main job on real input: a Debian made of three layers, used without root
#   make test  [ARGS=...]    the whole suite, quality gates included, on all processors; ARGS go to pytest
#   make check [ARGS=...]    linters, types, and all tests that need no mount
#   make bench [ARGS=...]    the numbers; ARGS go to `python -m benchmarks`
#   make peers               the strongest peers into .peers/, where their toolchains are at hand
#   make lint                ruff, mypy, import-linter
#   make man                 docs/man, the installed man pages, from docs/
#   make bare  [DO=demo]     demo or test (or setup, install) in a bare Debian 12 tree made for it
#   make clean               remove what the other targets made in this directory: all that git ignores. What takes long to
#                            make and lies outside stays: /var/tmp/layerfs-tests (a Debian), /var/tmp/layerfs-bench (trees)
.POSIX:
.PHONY: setup demo test check bench peers lint man bare clean

ARGS =
DO = demo
PYTEST = .venv/bin/python -m pytest --numprocesses=auto --dist=worksteal

setup:
	@sh .make/setup.sh run
	@echo "layerfs is .venv/bin/layerfs"

demo:
	@sh .make/setup.sh demo
	@sh .make/walkable.sh bash .make/demo.sh

test:
	@sh .make/setup.sh test
	@sh .make/walkable.sh $(PYTEST) $(ARGS)

check:
	@sh .make/setup.sh test
	@sh .make/walkable.sh $(PYTEST) -m 'not mounts' $(ARGS)

bench:
	@sh .make/setup.sh bench
	@sh .make/walkable.sh .venv/bin/python -m benchmarks $(ARGS)

peers:
	@sh .make/setup.sh bench
	@sh .make/walkable.sh .venv/bin/python -m benchmarks peers

lint:
	@sh .make/setup.sh test
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

man:
	@sh .make/setup.sh test
	@sh .make/man.sh "$$PWD/docs/man"

bare:
	@sh .make/setup.sh demo
	@bash .make/bare.sh $(DO)

clean:
	rm -rf .venv .demo .peers bench-out build dist *.egg-info
	rm -rf .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.so' -exec rm -f {} +
