# Recipes for contributors. Continuous integration (.ci/run) runs `just check`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Run everything that continuous integration runs.
check: format test kernels examples demo-short lint doc package

# Check the formatting.
format:
    cargo fmt --all --check

# Run the README's test command. Release only: the training framework takes minutes to compile in each profile.
test:
    $(sed -n '/<!-- test command -->/,/^```$/p' README.md | grep '^cargo test')

# Run each case of the kernel benchmark once; it checks its results.
kernels:
    cargo bench --quiet --workspace --bench kernels -- --test

# Run the examples of the libraries.
examples:
    tools/examples.sh

# Run the demo for two epochs.
demo-short:
    tools/demo-short.sh

# Run the demo.
demo:
    cargo run --release -- demo

# Lint, with warnings denied.
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

# Build the documentation, with warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --release --workspace --no-deps

# Check that the crates' manifests and file lists are complete, without building the packages.
package:
    cargo package --quiet --workspace --exclude repvgg-testing --no-verify --allow-dirty

# Check the licences and duplicate versions of dependencies.
deny:
    cargo deny check bans licenses sources

# Test the kernels under AddressSanitizer, which does not see into assembly; needs the nightly toolchain.
sanitize:
    RUSTFLAGS="-Zsanitizer=address" cargo +nightly test --release -p repvgg-kernels --lib --target x86_64-unknown-linux-gnu --target-dir target/asan

# Time the engine against other runtimes; benchmarks/README.md explains how to install them.
rivals *OPTIONS:
    python3 benchmarks/rivals/rivals.py {{OPTIONS}}

# Fuzz a reader of untrusted bytes; needs the nightly toolchain and cargo-fuzz.
fuzz target="model":
    cargo +nightly fuzz run {{target}} fuzz/corpus/{{target}} fuzz/seeds/{{target}} -- -rss_limit_mb=2048 -timeout=10
