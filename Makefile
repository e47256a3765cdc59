# Everything here makes .venv first. ARGS goes to the command: make up ARGS="--port 9000", make test ARGS="-k pull".
.PHONY: up demo simulate test bench guards check clean
.DEFAULT_GOAL := up

# Some images set it. Every process that is started here would compile all modules anew: a second of CPU each.
unexport PYTHONDONTWRITEBYTECODE

up: .venv/installed
	@.venv/bin/matrix-sync up $(ARGS)

demo: .venv/installed-demo
	@.venv/bin/matrix-sync demo $(ARGS)

simulate: .venv/installed-demo
	@.venv/bin/matrix-sync simulate $(ARGS)

test: .venv/installed-dev
	@.venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=40 $(ARGS)

# Everything, or what ARGS names: make bench ARGS="sustained --share 0.1". See docs/performance.md.
bench: .venv/installed-dev
	@.venv/bin/python -m tests.bench $(ARGS)

guards: .venv/installed-dev
	@.venv/bin/python -m tests.guards $(ARGS)

check: .venv/installed-dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

# The data of `make up`, the virtual environment, all caches, and the downloaded server programs.
clean:
	@test ! -e .matrix-sync/lock || flock --nonblock .matrix-sync/lock true \
	  || { echo "stop 'make up' first: it runs as process $$(cat .matrix-sync/lock)" >&2; exit 1; }
	rm -rf .matrix-sync .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/matrix-sync"
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of extras; a newer pyproject.toml installs again.
.venv/installed: pyproject.toml scripts/venv
	@scripts/venv
	@touch $@

.venv/installed-%: pyproject.toml scripts/venv
	@scripts/venv $*
	@touch $@ .venv/installed
