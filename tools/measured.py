"""Writes the table of measurements in docs/images.md, between its markers, from the output of the programs.

    repvgg train CIFAR --preset cifar10 -o RUN …        -> --cifar RUN
    repvgg demo -o DEMO --json > DEMO.out               -> --demo DEMO.out
    training_speed and tools/training_speed.py          -> --training FILE (their output lines, one after another)

    python tools/measured.py --cifar RUN --demo DEMO.out --training SPEED.out
"""

import argparse
import json
import re
import tomllib
from pathlib import Path

START, END = "<!-- measured start -->", "<!-- measured end -->"


def cifar(run):
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    config = tomllib.loads((run / "config.toml").read_text())
    best = max(epoch["validation_top1"] for epoch in epochs)
    minutes = sum(epoch["seconds"] for epoch in epochs) / 60
    depths, width = (config["architecture"][key] for key in ("depths", "width"))
    label = f"CIFAR-10, {len(epochs)} epochs, depths {depths}, width {width}, {config['threads']} threads"
    return [(label, f"top-1 {100 * best:.2f} % on the 1,000 test images at hand, {minutes:.0f} min")]


def demo(output):
    line = json.loads(output.read_text().splitlines()[-1])
    speed = line["fused_images_per_second"] / line["train_form_images_per_second"]
    return [
        ("demo: top-1 in training form and fused", f"{100 * line['train_top1']:.2f} % and {100 * line['fused_top1']:.2f} %"),
        ("demo: largest relative difference of a logit after fusing", f"{line['max_relative_error']:.1e}"),
        (
            "demo: inference in training form and fused, images/s",
            f"{line['train_form_images_per_second']:.0f} and {line['fused_images_per_second']:.0f} ({speed:.2f} times)",
        ),
    ]


def training(output):
    lines = re.findall(r"^(.*batch \d+): ([\d.]+) images/s median, ([\d.]+) best", output.read_text(), re.MULTILINE)
    return [(f"training, {label}", f"{median} images/s median, {best} best") for label, median, best in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for source in ("cifar", "demo", "training"):
        parser.add_argument(f"--{source}", type=Path)
    arguments = parser.parse_args()
    readers = {"cifar": cifar, "demo": demo, "training": training}
    rows = [row for name, read in readers.items() if getattr(arguments, name) for row in read(getattr(arguments, name))]
    table = "\n".join(["| what | measured |", "|---|---|", *(f"| {label} | {value} |" for label, value in rows)])
    page = Path(__file__).parent.parent / "docs" / "images.md"
    text = page.read_text()
    start, end = text.index(START) + len(START), text.index(END)
    page.write_text(f"{text[:start]}\n{table}\n{text[end:]}")


if __name__ == "__main__":
    main()
