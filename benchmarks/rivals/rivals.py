"""Times this project's engine and its rivals, in one run, in turn.

Every engine gets the same weights and input, its best f32 settings and a process of its own, which loads once and then waits. In each
round every engine has one turn. The order rotates from round to round, and all other engines are stopped, so that no thread pool spins
during another's turn. A turn is a warm-up of a fifth of the timed runs, then the timed runs. The logits are compared with double precision.

    python benchmarks/rivals/rivals.py                                   A0, batch 1, one thread
    python benchmarks/rivals/rivals.py --models A0,B1g4 --batch 1,8 --threads 1,2 --work ../cache --readme docs/engine.md
    python benchmarks/rivals/rivals.py --no-run --readme docs/engine.md       only the table, from the records

Nothing is installed: a missing engine becomes a row that explains why. benchmarks/README.md explains how to install the engines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

import report
from networks import NETWORKS, Network, write_fresh
from workers import ENGINES, Job

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUST = HERE / "rust/target/release/repvgg-rivals"
RECORDS = HERE.parent / "records"


class Absent(Exception):
    """The reason why an engine has no measurements."""


class Worker:
    """The process of an engine, which runs only while it handles a request."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str], timeout: float) -> None:
        self.log, self.timeout = log, timeout
        with log.open("wb") as stderr:
            # A process group of its own: Ctrl-C reaches only this program, and the system ends a stopped orphan.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | environment,
                process_group=0,
            )
        self.requests = cast(IO[bytes], self.process.stdin)
        self.replies = cast(IO[bytes], self.process.stdout)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def signal(self, which: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, which)

    def version(self) -> str:
        """The version of the engine, once it is loaded."""
        reply = self.reply()
        if "absent" in reply:
            raise Absent(reply["absent"])
        return reply["version"]

    def ask(self, request: str) -> dict[str, Any]:
        self.signal(signal.SIGCONT)
        try:
            self.requests.write(f"{request}\n".encode())
            self.requests.flush()
        except BrokenPipeError:
            raise Absent(self.last_words()) from None
        return self.reply()

    def reply(self) -> dict[str, Any]:
        ready, _, _ = select.select([self.replies], [], [], self.timeout)
        if not ready:
            raise Absent(f"no reply within {self.timeout:.0f} s")
        line = self.replies.readline()
        if not line:
            raise Absent(self.last_words())
        self.signal(signal.SIGSTOP)
        return json.loads(line)

    def last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"ended with status {self.process.wait()}"


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """Makes a file or folder unless it exists: under a temporary name, which is then renamed."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"part-{path.name}")
        make(part)
        part.replace(path)
    return path


def digest(*paths: Path) -> str:
    """A hash of the content of files, for names."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


@dataclass(frozen=True)
class Files:
    """A network in the formats of all engines, for one batch and size."""

    job: Job  # with one thread
    folder: Path
    macs: int
    reference: np.ndarray


def prepare(name: str, weights: Path, work: Path, batch: int, size: tuple[int, int], repvgg: Path) -> Files:
    network = Network.load(weights)
    folder = work / f"{name}-{digest(weights)}"
    cell = folder / f"batch{batch}-{size[0]}x{size[1]}"
    ncnn = once(folder / "ncnn", network.write_ncnn)
    onnx = once(cell / "model.onnx", lambda part: network.write_onnx(part, batch, size))

    def draw(part: Path) -> None:
        images = np.random.default_rng(1).standard_normal((batch, network.channels, *size), dtype=np.float32)
        np.save(part, images)

    images = once(cell / "input.npy", draw)
    mnn = cell / "model.mnn"
    if not mnn.exists():
        # A process of its own: it prints, and MNN may not be installed, which the engine's row then reports.
        command = [sys.executable, str(HERE / "workers.py"), "mnn-convert", str(onnx), str(mnn)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    reference = once(cell / f"logits-{digest(weights, images)}.npy", lambda part: np.save(part, network.logits(np.load(images))))
    job = Job(
        weights=str(weights),
        onnx=str(onnx),
        mnn=str(mnn),
        ncnn=str(ncnn),
        input=str(images),
        repvgg=str(repvgg),
        batch=batch,
        size=size,
        threads=1,
    )
    return Files(job, cell, network.macs(size), np.load(reference))


def command(name: str, job: Job, job_file: Path) -> list[str]:
    if name in ENGINES:
        return [sys.executable, str(HERE / "workers.py"), name, str(job_file)]
    if not RUST.exists():
        manifest = RUST.parents[2] / "Cargo.toml"
        raise Absent(f"not built: cargo build --release --manifest-path {os.path.relpath(manifest)}")
    return [str(RUST), name, job.onnx, job.input, str(job.threads)]


class OtherPrograms:
    """The number of cores that other programs have used since construction; None if the system does not report it."""

    def __init__(self) -> None:
        self.start, self.busy_before, self.own_before = time.monotonic(), self.busy(), self.own()

    @staticmethod
    def busy() -> float | None:
        """Seconds in which a core was not idle, summed over all cores."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except FileNotFoundError:
            return None
        user, nice, system, _idle, _wait, interrupts, soft_interrupts, stolen = map(int, fields)
        return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def own() -> float:
        """Seconds used by this process and its ended children."""
        return sum(os.times()[:4])

    def cores(self) -> float | None:
        busy = self.busy()
        if busy is None or self.busy_before is None:
            return None
        others = busy - self.busy_before - (self.own() - self.own_before)
        return max(0.0, others / (time.monotonic() - self.start))


def relative_error(logits: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(logits.reshape(reference.shape) - reference).max() / np.abs(reference).max())


def measure(options: argparse.Namespace, name: str, files: Files, threads: int, work: Path) -> report.Cell:
    """Measures all engines on one network, batch and number of threads."""
    job = replace(files.job, threads=threads)
    job_file = files.folder / f"job-{threads}.json"
    job.save(job_file)
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    others = OtherPrograms()
    workers: dict[str, Worker] = {}
    versions: dict[str, str] = {}
    rounds: dict[str, list[dict[str, Any]]] = {}
    rows: dict[str, report.Row] = {}

    def attempt(act: Callable[[str], None], engine: str) -> None:
        try:
            act(engine)
        except Absent as reason:
            rows[engine] = {"engine": engine, "absent": str(reason)}
            if engine in workers:
                workers.pop(engine).end()

    with ExitStack() as stack:

        def start(engine: str) -> None:
            status(f"{name}: loading {engine}")
            worker = Worker(command(engine, job, job_file), files.folder / f"{engine}.log", environment, options.timeout)
            workers[engine] = stack.enter_context(worker)
            versions[engine], rounds[engine] = worker.version(), []

        def turn(engine: str) -> None:
            rounds[engine].append(workers[engine].ask(f"run {options.iterations}"))

        def finish(engine: str) -> None:
            logits = files.folder / f"{engine}.npy"
            workers[engine].ask(f"logits {logits}")
            error = relative_error(np.load(logits), files.reference)
            rows[engine] = report.row(engine, versions[engine], rounds[engine], error)

        for engine in [report.OURS, *options.rivals]:
            attempt(start, engine)
        for index in range(options.rounds):
            engines = list(workers)
            first = index % len(engines) if engines else 0
            for engine in engines[first:] + engines[:first]:
                status(f"{name}, batch {job.batch}, threads {threads}: round {index + 1} of {options.rounds}, {engine}")
                attempt(turn, engine)
        for engine in list(workers):
            attempt(finish, engine)
    status("")
    return {
        "network": name,
        "batch": job.batch,
        "threads": threads,
        "size": list(job.size),
        "macs": files.macs,
        "rounds": options.rounds,
        "iterations": options.iterations,
        "cores_used_by_others": others.cores(),
        "fma_peak_macs_per_second": [reply["fma_peak"] for reply in rounds.get(report.OURS, [])],
        "engines": [rows[engine] for engine in report.TITLES if engine in rows],
    }


def status(text: str) -> None:
    """Prints a line on a terminal, which the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run(options: argparse.Namespace, work: Path) -> None:
    record = report.new_record()
    paths = [options.json] if options.json else []
    if options.record:
        paths.append(options.record / f"{record['date'].replace(':', '')}.json")
    if options.model:
        networks = {options.model.stem: options.model.resolve()}
    else:
        networks = {name: work / f"{name}.safetensors" for name in options.models}
    for name, weights in networks.items():
        if not options.model:
            once(weights, partial(write_fresh, name=name))
        for batch in options.batch:
            files = prepare(name, weights, work, batch, options.size, options.repvgg.resolve())
            for threads in options.threads:
                cell = measure(options, name, files, threads, work)
                record["cells"].append(cell)
                print(report.table(cell), flush=True)
                for path in paths:
                    report.save(record, path)


def arguments() -> argparse.Namespace:
    def several(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
        return lambda text: [kind(part) for part in text.split(",") if part]

    def one_of(names: list[str]) -> Callable[[str], str]:
        def check(text: str) -> str:
            if text not in names:
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(names)}, found {text}")
            return text

        return check

    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) == 0:
            raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text}")
        return int(text)

    def size(text: str) -> tuple[int, int]:
        extents = [positive(part) for part in text.split("x")]
        if len(extents) > 2:
            raise argparse.ArgumentTypeError(f"expected S or HxW, found {text}")
        return extents[0], extents[-1]

    rivals = [name for name in report.TITLES if name != report.OURS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what to measure: every combination, cell by cell")
    what.add_argument(
        "--models",
        type=several(one_of(list(NETWORKS))),
        default=["A0"],
        metavar="NAME,…",
        help=f"networks with fresh seeded weights, of {', '.join(NETWORKS)} [A0]",
    )
    what.add_argument("--model", type=Path, metavar="FILE", help="the .safetensors file of a plain network, instead of --models")
    what.add_argument("--batch", type=several(positive), default=[1], metavar="N,…", help="images per run [1]")
    what.add_argument("--threads", type=several(positive), default=[1], metavar="N,…", help="threads of every engine [1]")
    what.add_argument("--size", type=size, default=(224, 224), metavar="HxW", help="image size, S or HxW [224]")
    what.add_argument(
        "--rivals",
        type=several(one_of(rivals)),
        default=rivals,
        metavar="NAME,…",
        help=f"of {', '.join(rivals)} [all]",
    )
    how = parser.add_argument_group("how to measure")
    how.add_argument("--rounds", type=positive, default=10, metavar="N", help="turns of every engine [10]")
    how.add_argument("--iterations", type=positive, default=10, metavar="N", help="timed runs in a turn [10]")
    how.add_argument(
        "--repvgg",
        type=Path,
        default=ROOT / "target/release/repvgg",
        metavar="FILE",
        help="this project's program [target/release/repvgg]",
    )
    how.add_argument("--work", type=Path, metavar="DIR", help="keep weights, models and logs here [a temporary folder]")
    how.add_argument("--timeout", type=float, default=600, metavar="S", help="longest wait for one engine [600]")
    results = parser.add_argument_group("results, in addition to the tables on standard output")
    results.add_argument("--json", type=Path, metavar="FILE", help="write the measurements to a file")
    results.add_argument(
        "--record",
        type=Path,
        nargs="?",
        const=RECORDS,
        metavar="DIR",
        help="write them to a dated file in a folder of records [benchmarks/records]",
    )
    results.add_argument("--readme", type=Path, metavar="FILE", help="then rewrite its speed table from that folder; implies --record")
    results.add_argument("--no-run", action="store_true", help="measure nothing: only --readme")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.readme:
        report.around_markers(options.readme)  # fail now rather than after an hour of measurements
        options.record = options.record or RECORDS
    try:
        if not options.no_run:
            with ExitStack() as stack:
                work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rivals-")))
                run(options, work.resolve())
        if options.readme:
            report.write_readme(options.readme, options.record)
    except KeyboardInterrupt:
        status("")
        sys.exit(130)


if __name__ == "__main__":
    main()
