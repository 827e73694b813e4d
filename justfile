# Everything a contributor runs; continuous integration runs the same.

# Formatting, lints, docs, tests, examples.
check: format lint doc test examples

# Is the code formatted?
format:
    cargo fmt --all --check

# Lints, warnings denied.
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

# Documentation, warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# All tests. Release only: the training framework compiles for minutes in each profile.
test:
    cargo test --release --workspace

# The library's examples, run.
examples:
    cargo run --release --example embed
    cargo run --release --example fuse_your_own_block

# The demo, shortened.
demo:
    cargo run --release -- demo

# Licences and duplicate versions of dependencies.
deny:
    cargo deny check bans licenses sources

# Convolution kernels against the processor's limit.
bench-kernels:
    cargo run --release --example kernels

# The kernels' tests under AddressSanitizer, which does not see into assembly; with the nightly toolchain.
sanitize:
    RUSTFLAGS="-Zsanitizer=address" cargo +nightly test --release -p repvgg-kernels --lib --target x86_64-unknown-linux-gnu --target-dir target/asan

# The engine beside other runtimes; benchmarks/README.md says how to install them.
rivals *OPTIONS:
    python3 benchmarks/rivals/rivals.py {{OPTIONS}}

# A reader of untrusted bytes on bytes that a fuzzer makes up; with the nightly toolchain and cargo-fuzz.
fuzz target="model":
    cargo +nightly fuzz run {{target}} fuzz/corpus/{{target}} fuzz/seeds/{{target}} -- -rss_limit_mb=2048 -timeout=10
