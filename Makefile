# A newcomer needs two of these: `make demo` and `make test`. Both install what is missing first.
# One profile (dev) and one target folder serve everything but `release`, so that RocksDB is compiled once.

CARGO ?= cargo
# Where the demo listens: PORT=8081 make demo
PORT ?= 8080
# What the load harness is given: make load LOAD='--only 1k,100k --servers pinstone,nginx'
LOAD ?=
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: demo test build release check setup setup-checks setup-instructions format direction clippy engine-alone docs fuzz-check \
	bench instructions instructions-record load clean-demo

demo: ## build, serve with defaults, publish examples/site, keep serving until Ctrl-C
	@PORT='$(PORT)' CARGO='$(CARGO)' examples/demo.sh

test: setup ## run every test: units, documentation, and end to end against the real binary
	$(CARGO) test --workspace

build: setup ## build the binary, target/debug/pinstone
	$(CARGO) build --workspace

release: setup ## build the optimised binary, target/release/pinstone; compiles RocksDB a second time
	$(CARGO) build --release

check: setup-checks setup-instructions format direction clippy engine-alone docs fuzz-check instructions ## everything that CI checks but the tests

clean-demo: ## remove ./pinstone-data, where the demo and whatever was published to it are kept
	rm -rf pinstone-data

bench: setup ## measure single steps (manifest, resolve, request, hash, plan), optimised; does not need RocksDB
	$(CARGO) bench --package pinstone-micro

# By itself the package asks the engine for no RocksDB; within the workspace it would get it, and other features.
INSTRUCTIONS = $(CARGO) run --quiet --package pinstone-micro --bin instructions --

instructions: setup-instructions ## count the instructions of a request, and compare with benches/micro/instructions.toml
	$(INSTRUCTIONS) check

instructions-record: setup-instructions ## count them five times, and write that file
	$(INSTRUCTIONS) record

load: ## measure beside nginx, h2o and others, and report; docs/performance.md. Installs nothing
	@CARGO='$(CARGO)' benches/load/run $(LOAD)

setup:
	@.ci/setup

setup-checks:
	@.ci/setup --checks

setup-instructions:
	@.ci/setup --instructions

format:
	$(CARGO) fmt --all --check

direction:
	@.ci/direction

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Small tools and fuzz targets use the engine without RocksDB.
engine-alone:
	$(CARGO) clippy --package pinstone-engine --no-default-features -- -D warnings

docs:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

# The fuzz targets are a workspace of their own. That they compile needs neither cargo-fuzz nor a sanitizer.
fuzz-check:
	$(CARGO) check --manifest-path fuzz/Cargo.toml --target-dir target
