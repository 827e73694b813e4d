#!/usr/bin/env bash
# Runs every example of the library crates, each of which checks itself. Skips an example that only measures.
set -euo pipefail
cd "$(dirname "$0")/.."
for file in crates/repvgg/examples/*.rs crates/repvgg-hub/examples/*.rs crates/repvgg-train/examples/*.rs; do
    [ -e "$file" ] || continue
    name=$(basename "$file" .rs)
    [ "$name" = training_speed ] && continue
    echo "-- $name"
    cargo run --quiet --release --example "$name"
done
