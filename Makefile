# The doors for people. What happens behind each is in scripts/, one subject per file.
# Settings are given as in `make run REDIS_PORT=6380`; make hands them to the scripts through the environment.

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-servers test-containers images faults torture loss bench budget drop build dist

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '%s\n' '' \
	  'Settings, as in: make run REDIS_PORT=6380' \
	  '  run    REDIS_PORT=6379  PG_PORT=(a free port)  LISTEN=127.0.0.1:9187  DATA_DIR=.data' \
	  '  drop   USERS=1000000  QUANTITY=100000  MODE=QUEUE|INSTANT  WAITLIST=0  CONNECTIONS=64  PIPELINE=1  SEED=1' \
	  '  faults  ONLY=(all, or a name: no-compare-and-set)' \
	  '  torture  MINUTES=30  SEED=(any)  SCENARIO=(all)' \
	  '  loss   ROUNDS=20  SEED=1' \
	  '  bench  ONLY=(all, or names: accepted,sold-out,...)  QUICK=(set: a tenth)  SEED=1' \
	  '  dist   DIST_DIR=dist' \
	  '  budget  RECORD=(set: write it anew)  KEEP=(a directory for callgrind'"'"'s files)'

run: ## install what is missing, build, start everything with a coupon to try; Ctrl-C stops it
	@scripts/run.sh

test: ## install what is missing, build, lint, and run the tests that need Rust, Redis and PostgreSQL: ten minutes at most
	@scripts/test.sh

test-all: test ## that, then other servers, containers, clients, deploy/, the page, budget, deliberate faults, more torture
	@scripts/test_all.sh

test-servers: ## run all end-to-end tests that touch Redis on Redis 8.2, Valkey 8.1 and Valkey 9.1
	@scripts/test_servers.sh

test-containers: ## run the end-to-end tests in containers, and those of the images and of compose.yaml
	@scripts/test_containers.sh

images: ## build the images redis-coupon/redis, valkey and reconciler, from source
	@scripts/images.sh

faults: ## build the product with each deliberate fault of tests/faults, and see that its test fails
	@scripts/faults.sh

torture: ## break real servers in a loop, MINUTES=30, and check the promises after each fault
	@scripts/torture.sh

loss: ## crash servers under load and count the answers that are gone, ROUNDS=20 times each way
	@scripts/loss.sh

bench: ## measure ours beside bare Redis, Lua, the old pattern and PostgreSQL alone; table, JSON and a page with plots
	@scripts/bench.sh

budget: ## count the instructions of each command under valgrind, and compare with bench/budget.json
	@scripts/budget.sh

drop: ## hold a sale and verify it, on the stack of `make run` or on one of its own
	@scripts/drop.sh

build: ## install what is missing and build the module, the reconciler and the load generator
	@scripts/build.sh

dist: ## build the release and pack it: module, reconciler, settings, docs and deploy/, with checksums, into dist/
	@scripts/dist.sh
