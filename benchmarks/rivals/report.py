"""Reports: records, the table of one cell, the table of a document. Every number comes from a record."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OURS = "repvgg"
TITLES = {
    OURS: "repvgg",
    "mnn": "MNN",
    "ncnn": "ncnn",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "pytorch": "PyTorch eager",
    "pytorch-compiled": "PyTorch compiled",
    "rten": "rten",
    "tract": "tract",
}
START, END = "<!-- speed start -->", "<!-- speed end -->"

Row = dict[str, Any]
Cell = dict[str, Any]
Record = dict[str, Any]


def write(path: Path, text: str) -> None:
    """Writes atomically: to a temporary file, which is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile, interpolated linearly between the two nearest ranks."""
    values = sorted(values)
    rank = percent / 100 * (len(values) - 1)
    low = int(rank)
    high = min(low + 1, len(values) - 1)
    return values[low] + (rank - low) * (values[high] - values[low])


def row(name: str, version: str, rounds: Sequence[Row], error: float) -> Row:
    """An engine's measurements in one cell; `rounds` are its replies."""
    times = [time for reply in rounds for time in reply["times_ms"]]
    cpu = [time for reply in rounds for time in reply["cpu_ms"]]
    return {
        "engine": name,
        "version": version,
        "runs": len(times),
        "median_ms": statistics.median(times),
        "min_ms": min(times),
        "p10_ms": percentile(times, 10),
        "round_medians_ms": [statistics.median(reply["times_ms"]) for reply in rounds],
        "cpu_ms": statistics.median(cpu) if cpu else None,
        "relative_error": error,
        "peak_mib": rounds[-1]["peak_mib"],
    }


def machine() -> Row:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (FileNotFoundError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}


def new_record() -> Record:
    return {"date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "machine": machine(), "cells": []}


def save(record: Record, path: Path) -> None:
    write(path, json.dumps(record, indent=1) + "\n")


def present(cell: Cell) -> dict[str, Row]:
    """The rows of the engines that ran, the fastest first."""
    rows = [row for row in cell["engines"] if "absent" not in row]
    return {row["engine"]: row for row in sorted(rows, key=lambda row: row["median_ms"])}


def roofline_ms(cell: Cell) -> float | None:
    """The time of a perfect direct convolution: every multiply-add at the peak measured in the same rounds."""
    peaks = cell["fma_peak_macs_per_second"]
    return cell["macs"] * cell["batch"] / (statistics.median(peaks) * cell["threads"]) * 1e3 if peaks else None


def formatted(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Aligns columns of text: the first two to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligns = ["<", "<", *[">"] * (len(widths) - 2)]
    lines = ("  ".join(f"{text:{a}{w}}" for text, a, w in zip(line, aligns, widths, strict=True)) for line in rows)
    return "\n".join(line.rstrip() for line in lines)


def title(cell: Cell) -> str:
    height, width = cell["size"]
    threads = "1 thread" if cell["threads"] == 1 else f"{cell['threads']} threads"
    return f"{cell['network']}, batch {cell['batch']}, {threads}, {height}×{width}"


def table(cell: Cell) -> str:
    """The table of one cell, for the terminal."""
    rows = present(cell)
    ours, roofline = rows.get(OURS), roofline_ms(cell)
    lines = [["engine", "version", "median ms", "min ms", "p10 ms", "images/s", "CPU ms"]]
    lines[0] += ["× ours", "× roofline", "error", "peak MiB"]
    for name, row in rows.items():
        median = row["median_ms"]
        lines.append(
            [
                TITLES[name],
                row["version"],
                *(f"{row[key]:.2f}" for key in ("median_ms", "min_ms", "p10_ms")),
                f"{cell['batch'] * 1e3 / median:.1f}",
                formatted(row["cpu_ms"], ".2f"),
                formatted(median / ours["median_ms"] if ours else None, ".2f"),
                formatted(roofline / median if roofline else None, ".2f"),
                f"{row['relative_error']:.1e}",
                f"{row['peak_mib']:.0f}",
            ]
        )
    text = [title(cell), "", aligned(lines), ""]
    if roofline:
        peaks = [peak / 1e9 for peak in cell["fma_peak_macs_per_second"]]
        text.append(
            f"multiply-add peak of a thread: median {statistics.median(peaks):.1f}, {min(peaks):.1f} to {max(peaks):.1f} GMAC/s; "
            f"a perfect direct convolution takes {roofline:.2f} ms"
        )
    if cell["cores_used_by_others"] is not None:
        text.append(f"other programs kept {cell['cores_used_by_others']:.2f} cores busy during the measurement")
    text += [f"absent: {TITLES[row['engine']]}: {row['absent']}" for row in cell["engines"] if "absent" in row]
    return "\n".join([*text, ""])


def readme_table(records: Iterable[Record]) -> str:
    """One line per cell, from the newest record that has it; one table per processor and image size."""
    newest: dict[tuple[Any, ...], tuple[Record, Cell]] = {}
    for record in sorted(records, key=lambda record: record["date"]):
        for cell in record["cells"]:
            key = (record["machine"]["cpu"], *cell["size"], cell["network"], cell["threads"], cell["batch"])
            newest[key] = record, cell
    tables: dict[tuple[Any, ...], list[tuple[Record, Cell]]] = {}
    for key in sorted(newest):
        tables.setdefault(key[:3], []).append(newest[key])
    return "\n\n".join(map(markdown, tables.values()))


def markdown(cells: Sequence[tuple[Record, Cell]]) -> str:
    measured = [(cell, present(cell)) for _, cell in cells]
    engines = [name for name in TITLES if any(name in rows for _, rows in measured)]
    head = ["network", "batch", "threads", *(TITLES[name] for name in engines), "fastest rival's time to ours"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for cell, rows in measured:
        rivals = [name for name in rows if name != OURS]
        ratio = "–"
        if OURS in rows and rivals:
            ratio = f"{rows[rivals[0]]['median_ms'] / rows[OURS]['median_ms']:.2f} ({TITLES[rivals[0]]})"
        medians = [formatted(rows[name]["median_ms"] if name in rows else None, ".1f") for name in engines]
        lines.append([cell["network"], str(cell["batch"]), str(cell["threads"]), *medians, ratio])
    newest, (height, width) = cells[-1][0]["machine"], cells[-1][1]["size"]
    versions = {name: sorted({rows[name]["version"] for _, rows in measured if name in rows}) for name in engines}
    dates = sorted({record["date"][:10] for record, _ in cells})
    runs = sorted({row["runs"] for _, rows in measured for row in rows.values()})
    others = [cell["cores_used_by_others"] for cell, _ in measured if cell["cores_used_by_others"] is not None]
    load = f"other programs kept {max(others):.2f} cores busy at most; " if others else ""
    versions_text = ", ".join(f"{TITLES[name]} {' and '.join(found)}" for name, found in versions.items())
    note = (
        f"Median milliseconds of a run in f32, images of {height}×{width}, {' or '.join(map(str, runs))} runs of each engine in turn; "
        f"{load}{newest['cpu']}, {newest['cores']} cores, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}. {versions_text}."
    )
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", note])


def around_markers(readme: Path) -> tuple[str, str]:
    """The text before and after the speed table."""
    try:
        before, rest = readme.read_text().split(START, 1)
        _, after = rest.split(END, 1)
    except FileNotFoundError:
        raise SystemExit(f"{readme}: not found") from None
    except ValueError:
        raise SystemExit(f"{readme}: expected the markers {START} and {END}, in this order") from None
    return before, after


def write_readme(readme: Path, folder: Path) -> None:
    """Rewrites the table between the markers from the records in a folder."""
    before, after = around_markers(readme)
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not records:
        raise SystemExit(f"{folder}: expected records, found none")
    write(readme, f"{before}{START}\n{readme_table(records)}\n{END}{after}")
