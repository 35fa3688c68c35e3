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
# Said by a person, never by us: a drill empties the Redis that is named, and works off the rows of its database.
meant = $(if $(filter command line,$(origin I_MEAN_IT)),$(if $(filter 1,$(I_MEAN_IT)),--i-mean-it))
given = $(if $(filter command line,$(origin $(1))),$(2) '$($(1))')

.PHONY: help setup dev demo drill test test-all screenshots check fmt bench bench-peers bench-compare lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | while IFS='	' read -r name what; do printf '  make %-13s %s\n' "$$name" "$$what"; done

setup: ## make .venv from requirements/dev.lock, once (uv if present, else venv and pip)
	@sh scripts/setup

dev: setup ## run an example with jobs to look at, and the dashboard, at the address that is printed (ARGS="--port 8080")
	@unset REDIS_URL DATABASE_URL; exec $(python) -m examples.live $(ARGS)

demo: setup ## index real files while Redis is emptied and a worker is killed (ROWS= SEED= SABOTAGE= DATABASE_URL= REDIS_URL=)
	@unset REDIS_URL DATABASE_URL; exec $(python) -m examples.indexer demo \
	  $(call given,ROWS,--rows) $(call given,SEED,--seed) $(call given,SABOTAGE,--sabotage) \
	  $(call given,DATABASE_URL,--database-url) $(call given,REDIS_URL,--redis-url)

drill: setup ## break Redis in every way under load, on a private PostgreSQL and Redis, and prove 0 lost (FAULTS= SECONDS= ROWS= REPORT=; DATABASE_URL= REDIS_URL=, with I_MEAN_IT=1)
	@sh scripts/provision
	@unset REDIS_URL DATABASE_URL; exec $(python) -m tests.drill \
	  $(call given,FAULTS,--faults) $(call given,SECONDS,--seconds) $(call given,ROWS,--rows) $(call given,REPORT,--report) \
	  $(call given,DATABASE_URL,--database-url) $(call given,REDIS_URL,--redis-url) $(meant)

test: setup ## run the tests (ARGS= for pytest, WORKERS=0 for one at a time; CI=true or PROVISION=1, as root, installs Debian's servers first, Unleash, axe)
	@sh scripts/provision && sh scripts/npm
	@exec $(python) -m $(if $(filter true,$(CI)),tests.again,pytest) $(tests) -m 'not slow' $(ARGS)

test-all: setup ## run the tests and the long repetitions (SHARD=i/n: the i-th part of n, for n machines)
	@sh scripts/provision && sh scripts/npm
	@exec $(python) -m pytest $(if $(SHARD),$(in_shard),$(tests)) $(ARGS)

screenshots: setup ## draw every page of the dashboard, light, dark and on a phone, into .cache/screenshots (needs Chromium)
	@exec $(python) -m tests.gallery .cache/screenshots

check: setup ## lint, format, types, layers, house rules
	@sh scripts/check

fmt: setup ## format, and fix what can be fixed safely
	@$(python) -m ruff check --fix-only --quiet .
	@$(python) -m ruff format --quiet .

bench: setup ## measure beside a raw loop and Sidekiq (ARGS="--only CASE --json FILE")
	@exec $(python) -m benchmarks $(ARGS)

bench-peers: setup ## measure beside Sidekiq and the queues of Python, each in its own environment (ARGS="--system rq --json FILE")
	@exec $(python) -m benchmarks peers $(ARGS)

bench-compare: setup ## measure a revision and the files as they are, in turn (BASE=main~5 ARGS="--only drain")
	@$(if $(BASE),,echo 'bench-compare: name a revision, as in: make bench-compare BASE=main~5' >&2; exit 2;) \
	  exec $(python) -m benchmarks compare $(BASE) $(ARGS)

lock: ## pin anew what pyproject.toml asks for (needs uv)
	@sh scripts/lock

clean: ## remove .venv, caches and evidence of demos
	@rm -rf .venv .cache .qik .demo .ruff_cache .hypothesis .import_linter_cache
