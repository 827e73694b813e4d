#!/usr/bin/env bash
# Runs the demo for two epochs, which must end with a line of JSON and a report.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo run --quiet --release -- demo --epochs 2 -o "$scratch/demo" --json | tail -n 1 | tee "$scratch/line.json"
grep -q '"fused_top1":' "$scratch/line.json"
test -s "$scratch/demo/report.html"
