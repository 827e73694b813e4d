"""Compares repvgg with PyTorch, timm and ONNX Runtime, in the way `repvgg verify A B` compares two models, and writes goldens.

    python tools/parity.py --binary target/release/repvgg --networks a0,b1g4,d2se,custom
    python tools/parity.py --binary target/release/repvgg --networks custom --images photos/ --write-goldens goldens/

Each network gets random weights without trivial batch norms (tools/repvgg_torch.py) and goes through
  - timm: the PyTorch network against timm's, and timm with the weights of `repvgg export --dialect timm`;
  - every container that PyTorch writes: `repvgg run`, then `repvgg fuse` and run, against PyTorch in float64;
  - `repvgg export` to ONNX: onnx.checker, ONNX Runtime, then back through `repvgg run` and `repvgg verify`;
  - the files that torch.onnx writes: `repvgg run`, then `repvgg fuse` and run.
With --images, Pillow, torchvision and PyTorch classify the same files as `repvgg predict`.

Each check prints a line, and a table follows at the end. A difference is the largest difference of a logit, relative to the largest logit.
The exit code is 1 if a check fails. tools/requirements-parity.txt lists the packages.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from timm.utils import reparameterize_model
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from parity_files import (
    DIALECTS,
    EXPORTERS,
    LEGACY,
    State,
    containers,
    forms,
    in_type,
    training_run,
    translated,
    write_onnx,
    write_pixels,
)
from parity_session import Case, Row, Session, copy_of, difference, logits64
from repvgg_torch import SPECS, network, pictures

HALF = 5e-3
"""The limit for parameters rounded to eleven bits."""
PIXELS = 2e-2
"""The limit for resizing in f32, where Pillow rounds to bytes twice."""
LEVELS = 2.01
"""The limit for a pixel, of 255 levels: one from decoding JPEG, one from resizing."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPSETS = (7, 11, 13, 17, 18, 21)


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
    """Compares with PyTorch on the same rounded parameters."""
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
        path.unlink(missing_ok=True)
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
    """Exit code 1 with a report means that the models differ."""
    report = session.call("verify", ours, path, "--size", 64, "--images", 2, "--json", accepted=(0, 1))
    return json.loads(report)["relative_difference"]


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in ((9, 31), (17, -12), (40, 7))]
    return np.stack([127 + 120 * wave for wave in waves], axis=-1).astype(np.uint8)


def preprocessed(session: Session, case: Case, ours: pathlib.Path) -> float:
    path, image = session.work / "preprocess.onnx", picture(240, 320)
    session.call("export", ours, "-o", path, "--form", "plain", "--with-preprocess")
    return difference(runtime(path, image[None]), logits64(case.model, standard()(Image.fromarray(image))[None]))


def standard() -> Compose:
    """The preprocessing of a file without metadata: the paper's."""
    return Compose([Resize(256), CenterCrop(224), ToTensor(), Normalize(MEAN, STD)])


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
    """Compares top-1, probabilities, and the pixels of the network's input in 255ths."""
    echo = session.work / "pixels.onnx"
    write_pixels(echo, 224)
    with torch.no_grad():
        for line in session.call("predict", ours, folder, "--top", case.spec.classes, "--json").splitlines():
            found = json.loads(line)
            image = ImageOps.exif_transpose(Image.open(found["image"])).convert("RGB")
            expected = case.model(standard()(image)[None]).softmax(-1)[0].numpy()
            what = f"predict {pathlib.Path(found['image']).name}"
            session.check(f"{what}: top-1", lambda: float(found["top"][0]["class"] != expected.argmax()), 0)
            worst = max(abs(entry["probability"] - expected[entry["class"]]) for entry in found["top"])
            session.check(f"{what}: probabilities", lambda: float(worst), 1e-3)
            session.check(f"{what}: pixels", lambda: pixels(session, echo, found["image"], standard()(image)), LEVELS)


def pixels(session: Session, echo: pathlib.Path, path: str, expected: torch.Tensor) -> float:
    """The logarithms of probabilities are logits up to a constant, which is the median difference."""
    top = json.loads(session.call("predict", echo, path, "--top", expected.numel(), "--json"))["top"]
    found = np.full(expected.numel(), np.nan)
    found[[entry["class"] for entry in top]] = np.log([entry["probability"] for entry in top])
    error = found.reshape(expected.shape) - expected.numpy()
    return float(np.abs((error - np.median(error)) * 255 * np.reshape(STD, (3, 1, 1))).max())


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
        try:
            check()
        except Exception as error:  # the other sections still run
            session.record(Row(session.section, section, float("nan"), 0, " ".join(str(error).split())[:300]))
    ours.unlink()


def summary(rows: list[Row]) -> None:
    """Prints a line for each network, section and tolerance, then repeats every failure."""
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
    parser.add_argument("--size", type=int, default=64, help="height of the input, which is 32 pixels wider (default: %(default)s)")
    parser.add_argument("--work", type=pathlib.Path, help="a folder for files, which stay there (default: a temporary folder)")
    parser.add_argument("--images", type=pathlib.Path, help="images to classify")
    parser.add_argument("--write-goldens", type=pathlib.Path, help="a folder for the files and logits of each network")
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
