# Two commands do everything on a fresh Debian or Ubuntu machine that has rustup: `make demo` and `make test`.
.PHONY: demo test setup build lint unit scenarios faults fuzz bench crds

CARGO ?= cargo
NAMEWARD = $(or $(CARGO_TARGET_DIR),target)/debug/nameward

# An incident in the simulated cluster, found and healed before your eyes.
demo: setup build
	$(NAMEWARD) simulate udp-dead

test: lint unit scenarios

setup:
	@.ci/setup

build:
	$(CARGO) build --quiet

lint:
	@.ci/setup tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets --all-features -- -D warnings

unit:
	@.ci/setup tests
	$(CARGO) test --quiet --workspace --all-features --no-fail-fast

# Every scenario, in every data plane that makes a difference to it, with what remedies heal once more without them. Each run holds
# two controls of its own: a quiet time before the fault, and the fault lifted.
scenarios: build
	$(NAMEWARD) simulate --all --once --controls
	$(NAMEWARD) simulate udp-dead --panics

# docs/faults.md from a run of every scenario in every data plane.
faults: build
	$(NAMEWARD) simulate --all --faults-table docs/faults.md

# Every parser of what others write, for a bounded time: SECONDS each.
SECONDS_EACH ?= 10
fuzz:
	@.ci/setup tests
	fuzz/run $(SECONDS_EACH)

bench:
	@.ci/setup tests
	$(CARGO) bench -p nameward-prober --features actor --bench sweep
	$(CARGO) bench -p nameward-kernel --bench big_node

# Writes the custom resource definitions from the types.
crds:
	NAMEWARD_WRITE_CRDS=1 $(CARGO) test --quiet -p nameward-cluster --features io crd
