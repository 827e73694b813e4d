"""Compares repvgg with PyTorch, timm and ONNX Runtime, as `repvgg verify A B` compares two models, and writes goldens.

    python tools/parity.py --binary target/release/repvgg --networks a0,b1g4,d2se,custom
    python tools/parity.py --binary target/release/repvgg --networks custom --images photos/ --write-goldens goldens/

Each network gets random weights with no trivial batch norm (tools/repvgg_torch.py) and goes through
  - timm: our PyTorch network, timm's, and what timm loads of `repvgg export --dialect timm`;
  - every container that PyTorch writes: `repvgg run`, then `repvgg fuse` and run, against PyTorch in float64;
  - `repvgg export` to ONNX: onnx.checker, ONNX Runtime, back through `repvgg run` and `repvgg verify`;
  - what torch.onnx writes: `repvgg run`, `repvgg fuse` and run.
With --images, Pillow, torchvision and PyTorch classify the files beside `repvgg predict`.

One line per check, a table at the end. A difference is the largest of a logit, in the largest logit. Exit code 1 when a
check fails. The packages are those of tools/requirements-parity.txt.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import pathlib
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from timm.utils import reparameterize_model
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from parity_files import DIALECTS, EXPORTERS, LEGACY, State, containers, forms, in_type, training_run, translated, write_onnx
from repvgg_torch import SPECS, RepVgg, Spec, network, pictures

EXACT = 1e-5
"""What `repvgg run` promises beside float64."""
HALF = 5e-3
"""What is left of eleven bits in every parameter."""
PIXELS = 2e-2
"""Resizing in f32 beside Pillow, which rounds to bytes twice."""
SMALL = 20_000_000
"""Values of a network that goes through every file; larger ones go through the common ones."""
OPSETS = (7, 11, 13, 17, 18, 21)


class Failure(Exception):
    """A program said no: its last line."""


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
        """Fused in float64 and rounded once."""
        model = copy_of(self.model, self.spec).double()
        model.fuse()
        return model.float()


@dataclasses.dataclass
class Row:
    """One check; `note` is why it could not be made."""

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
    """The program, where files go, what was found."""

    binary: pathlib.Path
    work: pathlib.Path
    section: tuple[str, str] = ("", "")
    rows: list[Row] = dataclasses.field(default_factory=list)

    def call(self, *arguments: object) -> str:
        done = subprocess.run([self.binary, *map(str, arguments)], check=False, capture_output=True, text=True)
        if done.returncode:
            raise Failure((done.stderr or done.stdout).strip().splitlines()[-1])
        return done.stdout

    def check(self, what: str, measure: Callable[[], float], limit: float = EXACT) -> None:
        try:
            row = Row(self.section, what, measure(), limit)
        except Exception as error:  # whatever a library says of a file of ours is a finding
            row = Row(self.section, what, float("nan"), limit, " ".join(str(error).split())[:300])
        self.rows.append(row)
        print(row, flush=True)

    def logits(self, case: Case, model: pathlib.Path) -> np.ndarray:
        output = self.work / "logits.npy"
        self.call("run", model, "--input", self.input(case), "--output", output, *self.architecture(case, model))
        return np.load(output)

    def input(self, case: Case) -> pathlib.Path:
        path = self.work / f"{case.name}.npy"
        if not path.exists():
            np.save(path, case.images.numpy())
        return path

    def architecture(self, case: Case, model: pathlib.Path) -> list[object]:
        """Foreign weights do not show strides."""
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
    """In float64, the model left in float32."""
    result = model.double()(images.double()).numpy()
    model.float()
    return result


def check_containers(session: Session, case: Case) -> None:
    state, plain = dict(case.model.state_dict()), dict(case.plain.state_dict())
    dialects = [] if case.spec.auxiliary_heads else list(DIALECTS)
    for what, file, write in [*forms("training", state, dialects), *(containers(state) if case.small else [])]:
        write(session.work / file)
        session.run_and_fuse(what, case, session.work / file)
    for what, file, write in forms("plain", plain, dialects):
        write(session.work / file)
        session.check_run(what, case, session.work / file)
    for dtype in (torch.float16, torch.bfloat16):
        check_rounded(session, case, in_type(state, dtype), str(dtype).removeprefix("torch."))


def check_rounded(session: Session, case: Case, state: State, kind: str) -> None:
    """Against PyTorch with the same rounded parameters."""
    twin = copy_of(case.model, case.spec)
    twin.load_state_dict(state)
    rounded = dataclasses.replace(case, expected=logits64(twin, case.images))
    for file, save in (("model.safetensors", save_file), ("model.pth", torch.save)):
        save(state, session.work / file)
        session.run_and_fuse(f"{kind} {file}", rounded, session.work / file)


def check_timm(session: Session, case: Case, ours: pathlib.Path) -> None:
    model = timm.create_model(f"repvgg_{case.name}").eval()

    def load(state: State, model: torch.nn.Module) -> float:
        model.load_state_dict(state, strict=True)
        return difference(logits64(model, case.images), case.expected)

    def exported(form: str, model: torch.nn.Module) -> float:
        path = session.work / "timm.safetensors"
        session.call("export", ours, "--dialect", "timm", "--form", form, "-o", path)
        return load(load_file(path), model)

    session.check("timm in float64", lambda: load(translated(case.model.state_dict(), "timm"), model), 1e-12)
    session.check("export to timm, training form", lambda: exported("training", model), 1e-12)
    session.check("export to timm, plain form", lambda: exported("plain", reparameterize_model(model)))


def runtime(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def check_export(session: Session, case: Case, ours: pathlib.Path) -> None:
    images, path = case.images.numpy(), session.work / "exported.onnx"

    def export(*options: object) -> np.ndarray:
        session.call("export", ours, "-o", path, *options)
        return runtime(path, images)

    for form in ("training", "plain"):
        for opset in OPSETS if case.small else (17,):
            what = f"export to ONNX, {form} form, opset {opset}"
            arguments = ("--form", form, "--opset", opset)
            session.check(f"{what}: ONNX Runtime", lambda: difference(export(*arguments), case.expected))
            session.check_run(what, case, path)
        session.check(f"export to ONNX, {form} form: verify", lambda: verified(session, ours, path))
    what = "export to ONNX"
    session.check(f"{what}, external data", lambda: difference(export("--external-data"), case.expected))
    session.check_run(f"{what}, external data", case, path)
    session.check(f"{what}, f16", lambda: difference(export("--form", "plain", "--dtype", "f16"), case.expected), HALF)
    session.check(f"{what}, f16: run beside ONNX Runtime", lambda: difference(session.logits(case, path), runtime(path, images)))
    session.check(f"{what}, preprocessing", lambda: preprocessed(session, case, ours), PIXELS)


def verified(session: Session, ours: pathlib.Path, path: pathlib.Path) -> float:
    return json.loads(session.call("verify", ours, path, "--size", 64, "--images", 2, "--json"))["relative_difference"]


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in ((9, 31), (17, -12), (40, 7))]
    return np.stack([127 + 120 * wave for wave in waves], axis=-1).astype(np.uint8)


def preprocessed(session: Session, case: Case, ours: pathlib.Path) -> float:
    path, image = session.work / "preprocess.onnx", picture(240, 320)
    session.call("export", ours, "-o", path, "--form", "plain", "--with-preprocess")
    return difference(runtime(path, image[None]), logits64(case.model, standard()(Image.fromarray(image))[None]))


def standard() -> Compose:
    """The preprocessing of a file that says nothing: the paper's."""
    return Compose([Resize(256), CenterCrop(224), ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])


def check_torch_onnx(session: Session, case: Case) -> None:
    models = {"official training": case.model, "official plain": case.plain}
    if has_timm(case.name):
        model = timm.create_model(f"repvgg_{case.name}").eval()
        model.load_state_dict(translated(case.model.state_dict(), "timm"))
        models |= {"timm training": model, "timm plain": reparameterize_model(model)}
    for what, model in models.items():
        for exporter in EXPORTERS if case.small else ["dynamo"]:
            path = session.work / "torch.onnx"
            write_onnx(model, case.images, path, exporter)
            if what.endswith("training"):
                session.run_and_fuse(f"torch.onnx {exporter}, {what}", case, path)
            else:
                session.check_run(f"torch.onnx {exporter}, {what}", case, path)


def check_images(session: Session, case: Case, ours: pathlib.Path, folder: pathlib.Path) -> None:
    """Top-1 and the largest difference of a probability."""
    with torch.no_grad():
        for line in session.call("predict", ours, folder, "--top", case.spec.classes, "--json").splitlines():
            found = json.loads(line)
            image = ImageOps.exif_transpose(Image.open(found["image"])).convert("RGB")
            expected = case.model(standard()(image)[None]).softmax(-1)[0].numpy()
            what = f"predict {pathlib.Path(found['image']).name}"
            session.check(f"{what}: top-1", lambda: float(found["top"][0]["class"] != expected.argmax()), 0)
            worst = max(abs(entry["probability"] - expected[entry["class"]]) for entry in found["top"])
            session.check(f"{what}: probabilities", lambda: float(worst), 1e-3)


def has_timm(name: str) -> bool:
    return f"repvgg_{name}" in timm.list_models("repvgg_*")


def write_goldens(case: Case, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "input.npy", case.images.numpy())
    np.save(folder / "logits.npy", case.expected.astype(np.float32))
    (folder / "architecture.toml").write_text(case.spec.toml())
    state = dict(case.model.state_dict())
    save_file(state, folder / "train.safetensors")
    torch.save(state, folder / "train.pth")
    torch.save(state, folder / "train-legacy.pth", **LEGACY)
    torch.save(training_run(state), folder / "train-ddp.pth")
    torch.save(dict(case.plain.state_dict()), folder / "deploy.pth")
    for form, model in (("train", case.model), ("deploy", case.plain)):
        write_onnx(model, case.images, folder / f"{form}.onnx", "TorchScript")


def check_network(session: Session, name: str, options: argparse.Namespace) -> None:
    model = network(SPECS[name], seed=1)
    images = pictures(2, options.size, options.size + 32)
    case = Case(name, SPECS[name], model, images, logits64(model, images))
    if options.write_goldens:
        write_goldens(case, options.write_goldens / name)
    foreign, ours = session.work / "foreign.safetensors", session.work / f"ours-{name}.safetensors"
    save_file(dict(model.state_dict()), foreign)
    session.call("export", foreign, "-o", ours, *session.architecture(case, foreign))
    foreign.unlink()
    sections = {"containers": lambda: check_containers(session, case)}
    if has_timm(name):
        sections["timm"] = lambda: check_timm(session, case, ours)
    sections["export to ONNX"] = lambda: check_export(session, case, ours)
    sections["torch.onnx"] = lambda: check_torch_onnx(session, case)
    if options.images:
        sections["images"] = lambda: check_images(session, case, ours, options.images)
    for section, check in sections.items():
        session.section = (name, section)
        check()
    ours.unlink()


def summary(rows: list[Row]) -> None:
    """A line for each network, section and tolerance, then every failure again."""
    print("\n| network | checks | passed | largest difference that passed | limit |\n|---|---|---|---|---|")
    for name, section, limit in dict.fromkeys((*row.section, row.limit) for row in rows):
        found = [row for row in rows if row.section == (name, section) and row.limit == limit]
        passed = [row.difference for row in found if row.passed]
        print(f"| {name} | {section} | {len(passed)} of {len(found)} | {max(passed, default=0):.1e} | {limit:.0e} |")
    print("", *(row for row in rows if not row.passed), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default="target/release/repvgg", help="the program (default: %(default)s)")
    parser.add_argument("--networks", default="custom,a0", help=f"of {', '.join(SPECS)} (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="height of the input; it is 32 wider (default: %(default)s)")
    parser.add_argument("--work", type=pathlib.Path, help="where files go, and stay (default: a folder that is removed)")
    parser.add_argument("--images", type=pathlib.Path, help="images to classify")
    parser.add_argument("--write-goldens", type=pathlib.Path, help="where to keep each network's files and logits")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with contextlib.ExitStack() as stack:
        work = options.work or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        session = Session(options.binary.resolve(), work)
        for name in options.networks.split(","):
            check_network(session, name, options)
    summary(session.rows)
    sys.exit(not all(row.passed for row in session.rows))


if __name__ == "__main__":
    main()
