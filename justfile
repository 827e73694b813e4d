# Everything a contributor runs. Continuous integration (.ci/run) runs `just check`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# All that continuous integration runs.
check: format test kernels examples demo-short lint doc package

# Is the code formatted?
format:
    cargo fmt --all --check

# The README's test command. Release only: the training framework compiles for minutes in each profile.
test:
    $(sed -n '/<!-- test command -->/,/^```$/p' README.md | grep '^cargo test')

# The benchmark of the kernels, each case once: it checks its answers.
kernels:
    cargo bench --quiet --workspace --bench kernels -- --test

# The libraries' examples, run.
examples:
    tools/examples.sh

# The demo, two epochs.
demo-short:
    tools/demo-short.sh

# The demo.
demo:
    cargo run --release -- demo

# Lints, warnings denied.
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

# Documentation, warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --release --workspace --no-deps

# The crates can be published.
package:
    cargo package --quiet --workspace --exclude repvgg-testing --no-verify --allow-dirty

# Licences and duplicate versions of dependencies.
deny:
    cargo deny check bans licenses sources

# The kernels' tests under AddressSanitizer, which does not see into assembly; with the nightly toolchain.
sanitize:
    RUSTFLAGS="-Zsanitizer=address" cargo +nightly test --release -p repvgg-kernels --lib --target x86_64-unknown-linux-gnu --target-dir target/asan

# The engine beside other runtimes; benchmarks/README.md says how to install them.
rivals *OPTIONS:
    python3 benchmarks/rivals/rivals.py {{OPTIONS}}

# A reader of untrusted bytes on bytes that a fuzzer makes up; with the nightly toolchain and cargo-fuzz.
fuzz target="model":
    cargo +nightly fuzz run {{target}} fuzz/corpus/{{target}} fuzz/seeds/{{target}} -- -rss_limit_mb=2048 -timeout=10
