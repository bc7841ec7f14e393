# Two commands do everything on a fresh Debian or Ubuntu machine that has rustup: `make demo` and `make test`.
.PHONY: demo test setup build lint rules unit selection scenarios faults fuzz bench crds ladders configuration manifests metrics rights seeds

CARGO ?= cargo
NAMEWARD = $(or $(CARGO_TARGET_DIR),target)/debug/nameward
# The unit tests compile the program as well; for them a few libraries have other features, and compiling it once more for the
# scenarios would compile most of it again.
COMPILED = $(if $(filter test unit,$(MAKECMDGOALS)),unit,build)

# An incident in the simulated cluster, found and healed before your eyes.
demo: setup build
	$(NAMEWARD) simulate udp-dead

test: lint rules unit selection

setup:
	@.ci/setup

build:
	$(CARGO) build --quiet

lint:
	@.ci/setup tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets --all-features -- -D warnings

# Prometheus rules: their syntax, their tests against series, and the names of all metrics.
rules:
	@.ci/setup tests
	@deploy/prometheus/check

unit:
	@.ci/setup tests
	$(CARGO) test --quiet --workspace --all-features --no-fail-fast

# One scenario or two of each family, with what remedies heal once more without them: what fits into the time of CI.
SELECTION = udp-dead udp-stuck hung oom-killed rolling-update api-down healthy@nftables \
  pod-route-missing veth-off-bridge veth-down duplicate-pod-ip@nftables wrong-neighbour-gateway \
  ip-forward-off@nftables node-route-prohibit forward-drop forward-drop-native@nftables packet-filter-one-pod \
  network-policy-kube-router pod-filter-drop coredns-udp-filtered service-rules-missing service-rules-missing@nftables \
  service-selector-changed two-iptables-backends conntrack-insert-failed node-local-dns-dead upstream-dead wrong-answer \
  zone-mismatch aaaa-broken wrong-nameserver loopback-nameserver quiet-network-policy quiet-node-local-dns \
  node-repairs-route node-repair-cut-off traced-drop@nftables api-lost-later aaaa-dropped \
  many-nodes-sick forged-report coordinator-killed-after-act leader-paused-after-act quiet-ignored-namespace \
  replica-first restart-kube-proxy coredns-daemon-set status-page-opened
RIGHTS = $(CURDIR)/target/rights
selection: $(COMPILED)
	rm -rf $(RIGHTS) && mkdir -p $(RIGHTS)
	NAMEWARD_SIMULATION_RIGHTS=$(RIGHTS) $(NAMEWARD) simulate $(SELECTION) --controls --jobs 8 --again
	$(NAMEWARD) simulate udp-dead --panics

# Every scenario, in every data plane that makes a difference to it, with what remedies heal once more without them. Each run holds
# two controls of its own: a quiet time before the fault, and the fault lifted.
scenarios: $(COMPILED)
	$(NAMEWARD) simulate --all --once --controls

# docs/faults.md from a run of every scenario in every data plane, or of those in SCENARIOS.
SCENARIOS ?= --all
faults: build
	$(NAMEWARD) simulate $(SCENARIOS) --again --faults-table docs/faults.md

# The minds of whole fleets in virtual time (docs/virtual-time.md): SEEDS histories, beginning with FROM, in a profile of its own.
SEEDS ?= 1000
FROM ?= 0
seeds:
	$(CARGO) run --profile seeds -- simulate --virtual --seeds $(SEEDS) --from $(FROM)

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

# Renders deploy/rbac, deploy/admission and deploy/kustomize from the chart, and checks all of it.
manifests:
	.ci/manifests write

# docs/ladders.md, from the ladders.
ladders:
	NAMEWARD_WRITE_DOCS=1 $(CARGO) test --quiet -p nameward-config ladders

# docs/configuration.md, from config/nameward.toml and the rules.
configuration:
	NAMEWARD_WRITE_DOCS=1 $(CARGO) test --quiet -p nameward-config reference

# docs/metrics.md and the text that promtool lints, from the list of metrics.
metrics:
	NAMEWARD_WRITE_DOCS=1 $(CARGO) test --quiet -p nameward-metrics --test pure docs::

# Whether the shipped roles and policies fit what the selection does: no right unused, none missing. Five of its scenarios use all of them
# already: oom-killed, replica-first, restart-kube-proxy, coredns-daemon-set and status-page-opened.
rights: selection
	.ci/tools >/dev/null
	.ci/rights $(RIGHTS)
