"""Fuse ONNX networks with `repvgg fuse` and compare both files with ONNX Runtime.

    python tools/fuse_any.py network.onnx …          # files
    python tools/fuse_any.py --timm repvgg_a2 …      # networks of timm, exported unfused; without names, a dozen

Each network has to agree within 1e-5 of its largest output. For networks of timm, batch norms get random statistics, so that nothing is
an identity by chance, and the table also has the number of convolutions that timm's own fusion leaves.

Needs numpy, onnx, onnxruntime; for --timm also torch, timm, onnxscript.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-5
NETWORKS = (
    "repvgg_a2 mobileone_s1 repvit_m0_9 fastvit_t8 efficientvit_b0 efficientvit_m0 tiny_vit_5m_224 levit_128s ghostnetv3_050 repghostnet_050 "
    "mobilenetv4_conv_small convnext_atto resnet18 densenet121 efficientformerv2_s0 starnet_s1"
).split()
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(double)": np.float64}


def export(name, folder, exporter):
    """Writes an unfused network of timm; returns its path and the convolutions that timm's fusion leaves, if it has one."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    model.eval()
    size = model.default_cfg.get("input_size", (3, 224, 224))
    example, path = torch.zeros(1, *size), folder / f"{name}.onnx"
    settings = dict(do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE) if exporter == "script" else dict(optimize=False)
    torch.onnx.export(model, (example,), path, opset_version=17 if exporter == "script" else 18, dynamo=exporter == "dynamo", input_names=["x"], **settings)
    try:
        fused = timm.utils.reparameterize_model(model)
    except Exception:
        return path, None
    return path, sum(isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d)) for module in fused.modules())


def convolutions(path):
    return sum(node.op_type == "Conv" for node in onnx.load(path, load_external_data=False).graph.node)


def norms(path):
    return sum(node.op_type == "BatchNormalization" for node in onnx.load(path, load_external_data=False).graph.node)


def run(path, feeds=None):
    """The outputs, with the inputs; open extents of inputs are 1, then 224."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if feeds is None:
        rng, feeds = np.random.default_rng(0), {}
        for value in session.get_inputs():
            shape = [extent if isinstance(extent, int) else (1 if index == 0 else 224) for index, extent in enumerate(value.shape)]
            feeds[value.name] = rng.normal(size=shape).astype(TYPES.get(value.type, np.float32))
    return session.run(None, feeds), feeds


def difference(a, b):
    """The largest difference of an output relative to its largest value."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            return float("inf")
        if x.dtype.kind == "f" and x.size:
            worst = max(worst, float(np.abs(x.astype(np.float64) - y).max() / max(np.abs(x).max(), 1e-30)))
        elif not np.array_equal(x, y):
            return float("inf")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--timm", action="store_true", help="names of timm instead of files")
    parser.add_argument("--exporter", choices=["script", "dynamo"], default="script")
    parser.add_argument("--folder", type=pathlib.Path, help="keep the files here")
    parser.add_argument("--export-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.timm and not arguments.networks:
        arguments.networks = NETWORKS
    elif not arguments.networks:
        parser.error("expected files, or --timm")
    folder = arguments.folder or pathlib.Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    program, failed = os.environ.get("REPVGG", "repvgg"), 0
    print(f"{'network':28} {'conv before':>11} {'after':>6} {'own':>5} {'norms':>9} {'difference':>11}", flush=True)
    for name in arguments.networks:
        own, path = None, pathlib.Path(name)
        if arguments.timm:
            try:
                path, own = export(name, folder, arguments.exporter)
            except Exception as error:
                print(f"{name:28} not exported: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}", flush=True)
                continue
            (folder / f"{name}.own").write_text(str(own))
        if arguments.export_only:
            continue
        fused = folder / f"{path.stem}.fused.onnx"
        fused.unlink(missing_ok=True)
        done = subprocess.run([program, "fuse", path, "-o", fused], capture_output=True, text=True)
        if done.returncode:
            print(f"{path.stem:28} {done.stderr.strip()}", flush=True)
            failed += 1
            continue
        before, feeds = run(path)
        error = difference(before, run(fused, feeds)[0])
        failed += not error <= TOLERANCE
        count = f"{norms(path)}→{norms(fused)}"
        print(f"{path.stem:28} {convolutions(path):11} {convolutions(fused):6} {own if own is not None else '-':>5} {count:>9} {error:11.2e}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
