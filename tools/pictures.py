"""Draws the pictures of the README and docs/ as SVG, from the newest record of benchmarks/rivals and the geometry of a block.

    python tools/pictures.py                        writes docs/pictures/fusion.svg and docs/pictures/speed.svg
    python tools/pictures.py demo/report.html       also photographs the demo's report as docs/pictures/report.png, with Chromium
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"

INK, MUTED, PAPER = "#1f2430", "#667085", "#ffffff"
GREEN, BLUE, AMBER, GREY = "#1a7f5a", "#2f6fdb", "#c97a12", "#a9b1bd"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


class Svg:
    """A picture on a white ground, readable on light and dark pages."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img' {FONT}>",
            f"<title>{title}</title>",
            f"<rect width='{width}' height='{height}' rx='10' fill='{PAPER}'/>",
            "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
            f"<path d='M0 0 L8 4 L0 8 z' fill='{INK}'/></marker></defs>",
        ]

    def text(self, x: float, y: float, text: str, size: int = 14, anchor: str = "middle", fill: str = INK, weight: int = 400) -> None:
        self.parts.append(
            f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{fill}' font-weight='{weight}'>{text}</text>"
        )

    def box(self, x: float, y: float, w: float, h: float, fill: str, text: str) -> None:
        self.parts.append(f"<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='6' fill='{fill}' fill-opacity='0.14' stroke='{fill}' stroke-width='1.5'/>")
        self.text(x + w / 2, y + h / 2 + 5, text)

    def line(self, points: list[tuple[float, float]], tip: bool = True) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        marker = " marker-end='url(#tip)'" if tip else ""
        self.parts.append(f"<polyline points='{path}' fill='none' stroke='{INK}' stroke-width='1.5'{marker}/>")

    def cells(self, x: float, y: float, side: float, fills: list[list[tuple[str, float]]]) -> None:
        """Draws a kernel: a grid of squares, each with a colour and an opacity."""
        for r, row in enumerate(fills):
            for s, (fill, opacity) in enumerate(row):
                self.parts.append(
                    f"<rect x='{x + s * side:.1f}' y='{y + r * side:.1f}' width='{side}' height='{side}' fill='{fill}' "
                    f"fill-opacity='{opacity}' stroke='{INK}' stroke-opacity='0.35'/>"
                )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*self.parts, "</svg>", ""]))


def fusion() -> None:
    """Draws a block with three branches, and the convolution that it fuses into."""
    svg = Svg(860, 330, "A RepVGG block: three branches while training, one 3×3 convolution after fusing")
    svg.text(205, 30, "training: three branches", 15, weight=600)
    svg.text(715, 30, "plain: one 3×3 convolution", 15, weight=600)
    branches = [(60, BLUE, "3×3 conv", 0), (170, GREEN, "1×1 conv", 1), (280, AMBER, "identity", 2)]
    svg.text(205, 62, "x", 15)
    svg.line([(205, 68), (205, 80)], tip=False)
    for x, colour, name, index in branches:
        centre = x + 35
        svg.line([(205, 80), (centre, 80), (centre, 94)], tip=index < 2)
        if index < 2:
            svg.box(x - 8, 96, 86, 30, colour, name)
            svg.line([(centre, 126), (centre, 142)])
        else:
            svg.line([(centre, 94), (centre, 142)])
        svg.box(x - 8, 144, 86, 30, colour, "batch norm")
        svg.line([(centre, 174), (centre, 196), (217 if centre > 205 else 193 if centre < 205 else 205, 196)], tip=centre != 205)
        if centre == 205:
            svg.line([(205, 174), (205, 184)])
    svg.parts.append(f"<circle cx='205' cy='196' r='11' fill='{PAPER}' stroke='{INK}' stroke-width='1.5'/>")
    svg.text(205, 201, "+", 16)
    svg.line([(205, 207), (205, 222)])
    svg.box(162, 224, 86, 30, GREY, "ReLU")
    svg.line([(205, 254), (205, 270)])
    svg.text(205, 288, "y", 15)

    svg.line([(400, 160), (605, 160)])
    svg.text(502, 150, "fuse", 16, weight=600)
    svg.text(502, 182, "exact algebra in f64,", 13, fill=MUTED)
    svg.text(502, 200, "checked block by block", 13, fill=MUTED)
    side, top = 13.0, 226.0
    full = [[(BLUE, 0.55)] * 3 for _ in range(3)]
    centre = lambda colour: [[(colour, 0.75 if (r, s) == (1, 1) else 0.0) for s in range(3)] for r in range(3)]
    merged = [[(BLUE, 0.55)] * 3 for _ in range(3)]
    merged[1][1] = (INK, 0.8)
    x = 402.0
    for kernel, sign in ((full, "+"), (centre(GREEN), "+"), (centre(AMBER), "="), (merged, "")):
        svg.cells(x, top, side, kernel)
        svg.text(x + 3 * side + 8, top + 26, sign, 15)
        x += 3 * side + 17

    svg.text(715, 62, "x", 15)
    svg.line([(715, 68), (715, 128)])
    svg.box(650, 130, 130, 40, BLUE, "3×3 conv + bias")
    svg.line([(715, 170), (715, 222)])
    svg.box(672, 224, 86, 30, GREY, "ReLU")
    svg.line([(715, 254), (715, 270)])
    svg.text(715, 288, "y", 15)
    svg.text(430, 314, "the same function, to rounding", 13, fill=MUTED)
    svg.write(PICTURES / "fusion.svg")


def speed() -> None:
    """Draws the images per second of every engine, from the newest record."""
    record = json.loads(sorted((ROOT / "benchmarks" / "records").glob("*.json"))[-1].read_text())
    batch, threads = 8, 2
    cells = [cell for cell in record["cells"] if (cell["batch"], cell["threads"]) == (batch, threads)]
    cells.sort(key=lambda cell: cell["macs"])
    names = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "pytorch-compiled": "PyTorch compiled", "mnn": "MNN"}
    bar, gap, left = 15, 26, 150
    rows = sum(len([e for e in cell["engines"] if e.get("median_ms")]) for cell in cells)
    height = 84 + rows * (bar + 4) + len(cells) * gap + 24
    svg = Svg(860, height, "Images per second of RepVGG networks on several CPU engines")
    svg.text(20, 32, f"images per second, 224×224, f32, batch {batch}, {threads} threads; bars relative to the fastest", 15, "start", weight=600)
    svg.text(20, 52, f"{record['machine']['cpu']}, {record['machine']['cores']} cores, {record['date'][:10]}; medians, all engines in turn in one run", 12, "start", MUTED)
    y = 84.0
    for cell in cells:
        engines = sorted((e for e in cell["engines"] if e.get("median_ms")), key=lambda e: e["median_ms"])
        fastest = engines[0]["median_ms"]
        svg.text(20, y + bar - 2, f"RepVGG-{cell['network']}", 14, "start", weight=600)
        for engine in engines:
            ours = engine["engine"] == "repvgg"
            length = 560 * fastest / engine["median_ms"]
            rate = batch / engine["median_ms"] * 1e3
            colour = GREEN if ours else GREY
            svg.parts.append(f"<rect x='{left + 90}' y='{y:.1f}' width='{length:.1f}' height='{bar}' rx='2' fill='{colour}'/>")
            svg.text(left + 82, y + bar - 3, names.get(engine["engine"], engine["engine"]), 12, "end", INK if ours else MUTED, 600 if ours else 400)
            svg.text(left + 96 + length, y + bar - 3, f"{rate:.0f}", 12, "start", INK if ours else MUTED)
            y += bar + 4
        y += gap
    svg.write(PICTURES / "speed.svg")


def report(page: Path) -> None:
    """The first screen of the demo's report."""
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", "--window-size=1000,965", f"--screenshot={PICTURES / 'report.png'}"]
        subprocess.run([*command, page.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    fusion()
    speed()
    for argument in sys.argv[1:]:
        report(Path(argument))
