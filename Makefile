# `make` alone lists what there is. Everything runs in .venv, which `setup` makes and keeps up to date.

python = .venv/bin/python
# A database or Redis of the demo is named on make's own command line. What a shell happens to export is left alone:
# the demo empties the Redis that it is given.
# Tests wait more than they compute, so three files at a time, even on two cores; a file's own tests stay in order on one worker.
WORKERS = 3
tests = -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10 --durations-min=1
# The i-th of n machines takes every n-th part of all tests; those of a file need not stay together there.
SHARD =
in_shard = -n $(WORKERS) --dist worksteal --durations=10 --durations-min=1 --shard '$(SHARD)'
given = $(if $(filter command line,$(origin $(1))),$(2) '$($(1))')

.PHONY: help setup demo drill test test-all check fmt bench lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | while IFS='	' read -r name what; do printf '  make %-9s %s\n' "$$name" "$$what"; done

setup: ## make .venv from requirements/dev.lock, once (uv if present, else venv and pip)
	@sh scripts/setup

demo: setup ## index real files while Redis is emptied and a worker is killed (ROWS= SEED= SABOTAGE= DATABASE_URL= REDIS_URL=)
	@unset REDIS_URL DATABASE_URL; exec $(python) -m examples.indexer demo \
	  $(call given,ROWS,--rows) $(call given,SEED,--seed) $(call given,SABOTAGE,--sabotage) \
	  $(call given,DATABASE_URL,--database-url) $(call given,REDIS_URL,--redis-url)

drill: setup ## break Redis in every way under load, on a private PostgreSQL and Redis, and prove 0 lost (FAULTS= SECONDS= ROWS= REPORT= DATABASE_URL= REDIS_URL=)
	@sh scripts/provision
	@unset REDIS_URL DATABASE_URL; exec $(python) -m tests.drill \
	  $(call given,FAULTS,--faults) $(call given,SECONDS,--seconds) $(call given,ROWS,--rows) $(call given,REPORT,--report) \
	  $(call given,DATABASE_URL,--database-url) $(call given,REDIS_URL,--redis-url)

test: setup ## run the tests (ARGS= for pytest, WORKERS=0 for one at a time; CI=true or PROVISION=1, as root, installs Debian's servers first, and Unleash)
	@sh scripts/provision && sh scripts/unleash
	@exec $(python) -m pytest $(tests) -m 'not slow' $(ARGS)

test-all: setup ## run the tests and the long repetitions (SHARD=i/n: the i-th part of n, for n machines)
	@sh scripts/provision && sh scripts/unleash
	@exec $(python) -m pytest $(if $(SHARD),$(in_shard),$(tests)) $(ARGS)

check: setup ## lint, format, types, layers, house rules
	@sh scripts/check

fmt: setup ## format, and fix what can be fixed safely
	@$(python) -m ruff check --fix-only --quiet .
	@$(python) -m ruff format --quiet .

bench: setup ## measure beside a raw loop and Sidekiq (ARGS="--only CASE --json FILE")
	@exec $(python) -m benchmarks $(ARGS)

lock: ## pin anew what pyproject.toml asks for (needs uv)
	@sh scripts/lock

clean: ## remove .venv, caches and evidence of demos
	@rm -rf .venv .cache .qik .demo .ruff_cache .hypothesis .import_linter_cache
