# Two commands do everything on a fresh Debian or Ubuntu machine that has rustup: `make demo` and `make test`.
.PHONY: demo test setup build lint unit scenarios bench crds

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

# Every scenario with its controls (without its fault; with remedies off), in parallel as cores allow.
scenarios: build
	$(NAMEWARD) simulate --all --controls
	$(NAMEWARD) simulate udp-dead --panics

bench:
	@.ci/setup tests
	$(CARGO) bench -p nameward-prober --features actor --bench sweep

# Writes the custom resource definitions from the types.
crds:
	NAMEWARD_WRITE_CRDS=1 $(CARGO) test --quiet -p nameward-cluster --features io crd
