# One command per intent; .ci/run calls `make test` and nothing else.

# ip, iptables and their like live where a plain user's PATH does not look.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

.PHONY: help demo test test-cluster check lint lab cluster cluster-down image bench bench-cluster bench-scale soak fuzz completions man deps

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: ## Break the lab as the founding incident did, and see it named
	@scripts/demo

test: deps lint ## The whole test suite, the lab included (as root, or with user namespaces)
	cargo test --locked --workspace --no-fail-fast

test-cluster: ## All tests on a real Kubernetes, made for them (as root; the first time builds it: ten minutes)
	@scripts/deps cluster
	PROBER_WHOLE_CLUSTER=1 cargo test --locked --workspace --test cluster

check: lint ## The same without what needs a namespace
	PROBER_SKIP_PRIVILEGED=1 cargo test --locked --workspace --no-fail-fast --exclude prober-lab --exclude prober-net
	cargo test --locked --no-fail-fast -p prober-lab -p prober-net --lib

lint: ## Format, clippy, rustdoc, licences and bans, each crate by itself
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	scripts/alone
	scripts/deny

lab: ## Keep a healthy lab up in this terminal, to break by hand
	@scripts/deps demo
	cargo build --locked -p prober -p prober-agent
	cargo run --locked --quiet -p prober -- lab up

image: ## Make target/image/prober-agent.tar and prober-controller.tar, and print the reference that --image wants (ARCH=aarch64)
	@scripts/image $(ARCH)

cluster: ## Leave a real Kubernetes up, and open a shell in it (as root)
	@scripts/deps cluster
	@tests/cluster/bin/shell $(CLUSTER)

cluster-down: ## End that Kubernetes
	@tests/cluster/bin/down

bench: ## Measure the figures of the README beside zmap and an epoll loop
	scripts/bench

bench-cluster: ## Measure a run on a real Kubernetes, made for it (as root)
	scripts/bench-cluster

bench-scale: ## Measure a canary of five thousand fake nodes (as root)
	scripts/bench-scale

soak: ## Watch a canary on a healthy Kubernetes say nothing, for SOAK minutes (30; as root)
	scripts/soak $(SOAK)

fuzz: ## Fuzz each target for FUZZ_SECONDS (60); needs a nightly toolchain and cargo-fuzz
	scripts/fuzz $(or $(FUZZ_SECONDS),60)

deps: ## Install the Debian packages that the tests need
	@scripts/deps test
	@[ "$$(id -u)" -ne 0 ] || scripts/deps cluster
