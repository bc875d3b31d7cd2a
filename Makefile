# One command per intent; .ci/run calls `make test` and nothing else.

# The PATH of a plain user does not include the folders of ip, iptables and their like.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

# Prints the next step, and about how long it takes on two idle cores with empty caches; later runs take a fraction.
step = @printf '\n==> %s\n' '$(strip $(1))'

.PHONY: help demo demo-cost test test-cluster check lint alone parts lab cluster cluster-down image bench bench-cluster bench-scale bench-diagnosis soak fuzz portable completions man deps

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: ## Break the lab as the founding incident did, and name the cause (a minute)
	@scripts/demo

demo-cost: ## Measure what the demo costs to build from nothing; fail above five CPU minutes
	$(call step, what the demo costs to build from nothing: 1 minute)
	scripts/demo-cost

test: deps lint demo-cost parts ## The whole test suite, the lab included (as root, or with user namespaces)
	$(call step, build and run all tests: 25 minutes)
	cargo test --locked --workspace --no-fail-fast

test-cluster: ## All tests on a real Kubernetes, which they make (as root; the first time builds it: ten minutes); DATA_PLANE=NAME: its trials alone; KUBERNETES=1.33
	@scripts/deps cluster
	PROBER_WHOLE_CLUSTER=1 PROBER_DATA_PLANE=$(DATA_PLANE) cargo test --locked --workspace --test cluster

check: lint ## All tests that need no namespace, and lint
	$(call step, build and run the tests that need no namespace: 8 minutes)
	PROBER_SKIP_PRIVILEGED=1 cargo test --locked --workspace --no-fail-fast --exclude prober-lab --exclude prober-net
	cargo test --locked --no-fail-fast -p prober-lab -p prober-net --lib

lint: ## Format, clippy, rustdoc, licences and bans
	$(call step, format: 1 second)
	cargo fmt --all --check
	$(call step, clippy of the whole workspace: 4 minutes)
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(call step, clippy of the program without Kubernetes: 1 minute)
	cargo clippy --locked -p prober --no-default-features -- -D warnings
	$(call step, rustdoc: 1 minute)
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	$(call step, licences and bans: 3 minutes to build cargo-deny)
	scripts/deny

alone: ## Check each crate by itself, after a change of a Cargo.toml (twenty minutes: dependencies are checked once for each)
	scripts/alone

portable: ## Check that the command line compiles for macOS and Windows (twenty minutes: the standard library is checked, too)
	scripts/portable

parts: ## Build the Go programs that the tests need: Kubernetes, the OpenTelemetry Collector, Prometheus
	$(call step, build Kubernetes, the OpenTelemetry Collector and Prometheus by Go: 15 minutes)
	@scripts/parts

lab: ## Keep a healthy lab up in this terminal, to break by hand
	@scripts/deps demo
	@program=$$(scripts/lab-program) && exec "$$program" lab up

image: ## Make target/image/prober-agent.tar and prober-controller.tar, and print the reference that --image wants (ARCH=aarch64)
	@scripts/image $(ARCH)

cluster: ## Leave a real Kubernetes up, and open a shell in it (as root; KUBERNETES=1.33)
	@scripts/deps cluster
	@tests/cluster/bin/shell $(CLUSTER)

cluster-down: ## End that Kubernetes
	@tests/cluster/bin/down

bench: ## Measure the figures of the README beside zmap and an epoll loop
	scripts/bench

bench-cluster: ## Measure a run on a real Kubernetes, made for it (as root)
	scripts/bench-cluster

bench-diagnosis: ## Measure the diagnosis of 1,000 to 100,000 probes: its time grows as their number does
	cargo run --quiet --locked --release -p prober-tests --bin bench -- diagnosis

bench-scale: ## Measure a canary of five thousand fake nodes (as root)
	scripts/bench-scale

soak: ## Run a canary on a healthy Kubernetes for SOAK minutes (30), and fail if it reports a failure (as root)
	scripts/soak $(SOAK)

fuzz: ## Fuzz each target for FUZZ_SECONDS (60); needs a nightly toolchain and cargo-fuzz
	scripts/fuzz $(or $(FUZZ_SECONDS),60)

deps: ## Install the Debian packages that the tests need
	@scripts/deps test
	@[ "$$(id -u)" -ne 0 ] || scripts/deps cluster
	@scripts/captures >/dev/null || true
