# Each target does its own set-up (.ci/prepare): a fresh clone on a Debian machine needs nothing before.

PYTHON = .venv/bin/python
WORKERS ?= 2
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

.PHONY: build test lint demo screenshots soak fuzz sanitize constant-time neon audit bench nat-matrix clean

build:            ## .venv/bin/wgpy and .venv/bin/wgpy-device
	@.ci/prepare build
	@echo "built: $(CURDIR)/.venv/bin/wgpy"

test: lint        ## all checks and tests; those that need root run when root runs it
	cargo test --workspace --locked --quiet
	$(PYTHON) -m pytest -m "not alone" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder; beside=$$?; \
	$(PYTHON) -m pytest -m alone && exit $$beside

lint:             ## formats, lints and types of Python and Rust
	@.ci/prepare test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/stubtest wgpy._engine
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	cargo clippy -p wgpy-engine --features simulation --target-dir target/simulation --locked --quiet -- -D warnings
	cargo fmt --check --manifest-path benchmarks/udp_load/Cargo.toml
	cargo clippy --manifest-path benchmarks/udp_load/Cargo.toml --target-dir target/benchmarks/udp_load \
		--locked --quiet -- -D warnings
	cargo fmt --check --manifest-path benchmarks/ciphers/Cargo.toml
	rustfmt --check --edition 2024 benchmarks/engine_ciphers/src/lib.rs

demo:             ## a mesh of three hosts, in network namespaces; HOLD=1 keeps it until Ctrl-C
	@.ci/prepare demo
	@$(PYTHON) -m tests.netns.demo $(if $(filter-out 0,$(HOLD)),--hold)

screenshots:      ## the pictures in the README, by the tests' browser
	@.ci/prepare test
	README_IMAGES=1 $(PYTHON) -m pytest -q tests/browser/test_readme.py

soak:             ## the tests that take minutes, with gigabytes
	@.ci/prepare test
	FUZZ_INPUTS=100000 cargo test -p wgpy-fuzz --release --locked --quiet
	AEAD_ROUNDS=20000 cargo test -p wgpy-aead --release --locked --quiet
	$(PYTHON) -m pytest --soak -m soak --timeout 3600

fuzz:             ## libFuzzer on the data plane and its cipher (with AddressSanitizer) and the readers in Python, SECONDS=60 each
	for target in engine host_packets split_coalesce seal_open seal_batch allowed_ips; do \
		cargo +nightly fuzz run --fuzz-dir rust/fuzz --features fuzzer --target-dir target/fuzz $$target -- \
			-max_total_time=$(or $(SECONDS),60) -max_len=8192 || exit 1; \
	done
	$(PYTHON) -m pip install --quiet atheris
	for reader in $(notdir $(wildcard tests/corpora/*)); do \
		$(PYTHON) -m tests.fuzz_readers $$reader tests/corpora/$$reader -max_total_time=$(or $(SECONDS),60) || exit 1; \
	done

TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
SANITIZED = CARGO_PROFILE_TEST_OPT_LEVEL=1 nice cargo +nightly test --quiet -Zbuild-std --target $(TARGET)

sanitize:         ## the data plane's and the cipher's tests under Address- and ThreadSanitizer and Miri: nightly Rust
	rustup component add --toolchain nightly rust-src miri
	RUSTFLAGS=-Zsanitizer=address $(SANITIZED) --target-dir target/asan -p wgpy-dataplane --lib
	# residue.rs reads the stack of functions that have returned, which is what the sanitizer forbids.
	AEAD_ROUNDS=100 RUSTFLAGS=-Zsanitizer=address $(SANITIZED) --target-dir target/asan -p wgpy-aead --lib --tests -- \
		--skip the_stack --skip no_word_of_the_key
	RUSTFLAGS=-Zsanitizer=thread $(SANITIZED) --target-dir target/tsan -p wgpy-dataplane --lib -- --skip no_burden
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --quiet -p wgpy-dataplane --lib \
		--target-dir target/miri -- superpacket:: engine::staging:: --skip random

constant-time:    ## no branch and no index of the AVX2 cipher depends on key or plaintext, as far as valgrind sees
	cargo build --release --locked --quiet -p wgpy-aead --example constant_time
	valgrind --quiet --error-exitcode=1 target/release/examples/constant_time

neon:             ## the cipher's tests on an emulated aarch64: gcc-aarch64-linux-gnu and qemu-user-static
	rustup target add aarch64-unknown-linux-gnu
	AEAD_ROUNDS=200 CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" \
		cargo test --quiet -p wgpy-aead --target aarch64-unknown-linux-gnu --target-dir target/aarch64

audit:            ## dependencies: licences, versions, sources, and known faults where the network allows it
	cargo deny check bans licenses sources
	-cargo deny check advisories
	-$(PYTHON) -m pip_audit --strict --path .venv/lib/python3*/site-packages

bench:            ## throughput against other WireGuards: table, JSON and chart in benchmarks/results/
	@.ci/prepare test
	$(PYTHON) -m benchmarks.throughput

nat-matrix:       ## two nodes behind routers of every kind: path, first ping, time to the best path (root)
	@.ci/prepare test
	$(PYTHON) -m benchmarks.nat_matrix

clean:            ## back to what git has
	rm -rf .venv target dist wgpy/_engine*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
