"""A network under test, the result of a check, and the program under test, for tools/parity.py."""

import dataclasses
import pathlib
import subprocess
from collections.abc import Callable

import numpy as np
import torch

from repvgg_torch import RepVgg, Spec

EXACT = 1e-5
"""The guaranteed precision of `repvgg run`, relative to float64."""
SMALL = 20_000_000
"""The most parameters of a network that goes through every kind of file; larger networks go through the common kinds."""


class Failure(Exception):
    """The last line of a program that failed."""


@dataclasses.dataclass
class Case:
    """One network, the input, and PyTorch's logits in float64."""

    name: str
    spec: Spec
    model: RepVgg
    images: torch.Tensor
    expected: np.ndarray

    @property
    def small(self) -> bool:
        return sum(tensor.numel() for tensor in self.model.state_dict().values()) < SMALL

    @property
    def plain(self) -> RepVgg:
        """The plain form: fused in float64 and rounded once."""
        model = copy_of(self.model, self.spec).double()
        model.fuse()
        return model.float()


@dataclasses.dataclass
class Row:
    """One check; `note` explains why it could not run."""

    section: tuple[str, str]
    what: str
    difference: float
    limit: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.difference <= self.limit

    def __str__(self) -> str:
        verdict = "ok    " if self.passed else "FAILED"
        return f"{verdict}  {self.difference:7.1e}  {self.section[0]}, {self.what}  {self.note}".rstrip()


@dataclasses.dataclass
class Session:
    """The program, the folder for files, the results."""

    binary: pathlib.Path
    work: pathlib.Path
    section: tuple[str, str] = ("", "")
    rows: list[Row] = dataclasses.field(default_factory=list)

    def call(self, *arguments: object, accepted: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run([self.binary, *map(str, arguments)], check=False, capture_output=True, text=True)
        if done.returncode not in accepted or (done.returncode and not done.stdout):
            raise Failure((done.stderr or done.stdout).strip().splitlines()[-1])
        return done.stdout

    def check(self, what: str, measure: Callable[[], float], limit: float = EXACT) -> None:
        try:
            self.record(Row(self.section, what, measure(), limit))
        except Exception as error:  # a library's complaint about a file of repvgg is a result
            self.record(Row(self.section, what, float("nan"), limit, " ".join(str(error).split())[:300]))

    def record(self, row: Row) -> None:
        self.rows.append(row)
        print(row, flush=True)

    def logits(self, case: Case, model: pathlib.Path) -> np.ndarray:
        output = self.work / "logits.npy"
        self.call("run", model, "--input", self.input(case), "--output", output, *self.architecture(case, model))
        return np.load(output)

    def input(self, case: Case) -> pathlib.Path:
        path = self.work / "input.npy"
        np.save(path, case.images.numpy())
        return path

    def architecture(self, case: Case, model: pathlib.Path) -> list[object]:
        """The option that supplies strides, which foreign weights do not reveal."""
        if case.spec.strides == (2, 2, 2, 2, 2) or model.suffix == ".onnx" or model.name.startswith("ours"):
            return []
        path = self.work / f"{case.name}.toml"
        path.write_text(case.spec.toml())
        return ["--architecture", path]

    def check_run(self, what: str, case: Case, model: pathlib.Path) -> None:
        self.check(f"{what}: run", lambda: difference(self.logits(case, model), case.expected))

    def run_and_fuse(self, what: str, case: Case, model: pathlib.Path) -> None:
        fused = self.work / "ours-fused.safetensors"

        def fuse() -> float:
            self.call("fuse", model, "-o", fused, *self.architecture(case, model))
            return difference(self.logits(case, fused), case.expected)

        self.check_run(what, case, model)
        self.check(f"{what}: fuse, run", fuse)
        fused.unlink(missing_ok=True)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise Failure(f"expected shape {expected.shape}, found {found.shape}")
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def copy_of(model: RepVgg, spec: Spec) -> RepVgg:
    twin = RepVgg(spec).eval()
    twin.load_state_dict(model.state_dict())
    return twin


@torch.no_grad()
def logits64(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """The logits in float64. The model itself stays in float32."""
    result = model.double()(images.double()).numpy()
    model.float()
    return result
