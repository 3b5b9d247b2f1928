# Everything a developer runs. `.ci/run` is what CI runs; docs/development.md says what takes how long.

.PHONY: test check deps fmt lint lean unit cli-alone archive fuzz soak dev

# One dev-profile build serves unit, conformance and end-to-end tests. The command line comes before the workspace: in an empty
# target folder nothing has run protoc yet that it could profit from.
STEPS = deps fmt cli-alone unit
test:
	@for step in $(STEPS); do \
		started=$$(date +%s); \
		$(MAKE) --no-print-directory $$step || exit 1; \
		echo "== $$step took $$(( $$(date +%s) - started )) s"; \
	done

# What the tests need beside Rust: etcd itself and its own client (backups, history), protoc for our etcd client's build script, and
# Prometheus to read our metrics, and faketime to set a program's clock.
deps:
	@if ! command -v etcd >/dev/null || ! command -v etcdctl >/dev/null || ! command -v protoc >/dev/null \
		|| [ ! -d /usr/include/google/protobuf ] || ! command -v promtool >/dev/null \
		|| ! command -v faketime >/dev/null; then \
		echo "installing etcd-server, etcd-client, protobuf-compiler, libprotobuf-dev, prometheus and faketime"; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends \
			etcd-server etcd-client protobuf-compiler libprotobuf-dev prometheus faketime; \
	fi

# What a compiler says without running anything.
check: fmt lint lean

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Each cargo feature also off: an agent without the simulator, a controller without etcd. Clippy is `cargo check` that can deny
# warnings without building all dependencies anew.
lean:
	cargo clippy -p agent -p controller --no-default-features --locked -- -D warnings

# The binaries first: the end-to-end tests start them. `--all-targets`, or they would get other features than the tests, and half the
# tree would be built twice. More threads than CI has cores: the end-to-end tests wait for processes, leases and each other most
# of their time.
unit:
	cargo build --workspace --all-targets --locked
	FLARESHIFT_REQUIRE_ETCD=1 FLARESHIFT_REQUIRE_PROMETHEUS=1 FLARESHIFT_REQUIRE_FAKETIME=1 PLANNER_TESTS=all PROPTEST_RNG_SEED=1 \
		RUST_TEST_THREADS=8 cargo test --workspace --locked --no-fail-fast

# The command line must build without protoc and without etcd-client: a new user has neither.
cli-alone:
	PROTOC=/nonexistent cargo build -p cli --locked
	target/debug/flareshift version --client

# What no other build compiles, without etcd: the archive (decision 0017) and traces (decision 0020). Clippy, then the crates' own tests,
# then the binary: read by DuckDB, in a folder and on an S3 server, which both come from PyPI into the target folder, and by a receiver
# of traces. The agent has nothing behind its feature that would need a test of its own.
ARCHIVE = -p archive -p controller -p service --no-default-features --locked \
	--features archive/parquet,controller/archive,controller/otlp,service/otlp
ARCHIVE_VENV = $(abspath $(or $(CARGO_TARGET_DIR),target))/archive-python
archive:
	@if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then \
		echo "installing python3-venv"; \
		apt-get update -qq && apt-get install -y -qq python3-venv; \
	fi
	test -x $(ARCHIVE_VENV)/bin/moto_server || (python3 -m venv $(ARCHIVE_VENV) && \
		$(ARCHIVE_VENV)/bin/pip install --quiet --disable-pip-version-check 'duckdb>=1.1,<3' 'moto[s3]>=5,<6' flask flask-cors)
	cargo clippy $(ARCHIVE) --all-targets -- -D warnings
	cargo clippy -p agent --no-default-features --features otlp --locked -- -D warnings
	ARCHIVE_PYTHON=$(ARCHIVE_VENV)/bin/python PROPTEST_RNG_SEED=1 cargo test $(ARCHIVE) --lib --test archive --test otlp

# 80,000 inputs from a seed for each parser, a minute. `fuzz/` has the same entries for cargo-fuzz. And 400 histories of a fleet, each
# planned to its end and checked.
fuzz:
	STRATUM_FUZZ=80000 cargo test --workspace --locked --test main fuzz::
	PROPTEST_CASES=400 PROPTEST_RNG_SEED=1 cargo test --workspace --locked --test planner fuzz::

# Every fault of docs/faults.md with the real programs, one after another; each prints how long it took. `make test` runs one of each
# kind. A quarter of an hour.
soak: deps
	cargo build --workspace --all-targets --locked
	FLARESHIFT_REQUIRE_ETCD=1 cargo test -p e2e --locked --test main faults:: -- --include-ignored --nocapture --test-threads=1

dev:
	cargo run --release --locked -- dev
