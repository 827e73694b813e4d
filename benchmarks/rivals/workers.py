"""One engine in a process of its own, controlled by lines of text.

    python workers.py ENGINE JOB.json

Once loaded, the process prints the engine's version, or why the engine is absent, as one line of JSON. Then standard input takes

    run K            ⌈K / 5⌉ runs to warm up, then K timed runs       -> {"times_ms": […], "cpu_ms": […], "peak_mib": …}
    logits FILE.npy  one run, whose logits go to the file             -> {}

and each request gets one line of JSON. Every engine has the same f32 weights and input and its best f32 settings. A process imports only
the library of its engine.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Reply = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The task of an engine."""

    weights: str  # .safetensors of a plain network
    onnx: str
    mnn: str
    ncnn: str  # folder of model.param and model.bin
    input: str  # .npy of f32 [N, C, H, W]
    repvgg: str  # the program
    batch: int
    size: tuple[int, int]
    threads: int

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Job:
        return cls(**json.loads(path.read_text()))


class Engine(ABC):
    """A loaded network."""

    version: str

    @abstractmethod
    def __init__(self, job: Job) -> None: ...

    @abstractmethod
    def measure(self, count: int) -> Reply:
        """Warms up with a fifth of `count` runs, then times `count` runs."""

    @abstractmethod
    def write_logits(self, path: str) -> None: ...


class Library(Engine):
    """An engine that is a Python library."""

    @abstractmethod
    def run(self) -> Any:
        """Runs the network once. This is what is timed."""

    def logits(self) -> np.ndarray:
        return self.run()

    def measure(self, count: int) -> Reply:
        for _ in range(-(-count // 5)):
            self.run()
        wall, cpu = [], []
        for _ in range(count):
            used, start = time.process_time_ns(), time.perf_counter_ns()
            self.run()
            wall.append((time.perf_counter_ns() - start) / 1e6)
            cpu.append((time.process_time_ns() - used) / 1e6)
        return {"times_ms": wall, "cpu_ms": cpu, "peak_mib": peak_mib()}

    def write_logits(self, path: str) -> None:
        import numpy as np

        np.save(path, self.logits())


class Repvgg(Engine):
    """This project's engine: its command-line program, with a new process per round."""

    def __init__(self, job: Job) -> None:
        if not Path(job.repvgg).is_file():
            raise FileNotFoundError(f"{job.repvgg}: build it with cargo build --release, or name it with --repvgg")
        self.job = job
        self.version = self.output("--version").split()[-1]

    def output(self, *arguments: str) -> str:
        return subprocess.run([self.job.repvgg, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout

    def measure(self, count: int) -> Reply:
        height, width = self.job.size
        settings = {"batch": self.job.batch, "threads": self.job.threads, "size": f"{height}x{width}", "iterations": count}
        options = [f"--{name}={value}" for name, value in settings.items()]
        report = json.loads(self.output("bench", self.job.weights, *options, "--json"))
        return {
            "times_ms": report["times_ms"],
            "cpu_ms": report.get("cpu_times_ms", []),
            "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * RSS_UNIT,
            "fma_peak": report["fma_peak_macs_per_second"],
        }

    def write_logits(self, path: str) -> None:
        self.output("run", self.job.weights, f"--input={self.job.input}", f"--output={path}", f"--threads={self.job.threads}")


class Mnn(Library):
    def __init__(self, job: Job) -> None:
        import MNN
        import numpy as np

        self.version = importlib.metadata.version("mnn")
        settings = {"backend": "CPU", "numThread": job.threads, "precision": "high"}
        manager = MNN.nn.create_runtime_manager((settings,))
        self.network = MNN.nn.load_module_from_file(job.mnn, ["input"], ["logits"], runtime_manager=manager)
        images = np.load(job.input)
        self.images = MNN.expr.const(images, images.shape, MNN.expr.NCHW)

    def run(self) -> np.ndarray:
        return self.network.forward([self.images])[0].read()


class Ncnn(Library):
    """ncnn, which has no batch dimension: the images of a batch run one after another."""

    def __init__(self, job: Job) -> None:
        import ncnn
        import numpy as np

        self.version = importlib.metadata.version("ncnn")
        self.network = ncnn.Net()
        options = self.network.opt
        options.num_threads = job.threads
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage", "vulkan_compute"):
            setattr(options, f"use_{name}", False)
        for name in ("winograd_convolution", "sgemm_convolution", "packing_layout"):
            setattr(options, f"use_{name}", True)
        options.lightmode = True
        if self.network.load_param(f"{job.ncnn}/model.param") or self.network.load_model(f"{job.ncnn}/model.bin"):
            raise RuntimeError("the network does not load")
        self.array = np.load(job.input)  # must stay alive: the matrices borrow from it
        self.images = [ncnn.Mat(image) for image in self.array]

    def run(self) -> list[Any]:
        outputs = []
        for image in self.images:
            extractor = self.network.create_extractor()
            extractor.input("input", image)
            status, output = extractor.extract("logits")
            if status:
                raise RuntimeError(f"the network does not run: status {status}")
            outputs.append(output)
        return outputs

    def logits(self) -> np.ndarray:
        import numpy as np

        return np.stack([np.array(output) for output in self.run()])


class OnnxRuntime(Library):
    def __init__(self, job: Job) -> None:
        import numpy as np
        import onnxruntime

        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = job.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
        self.images = {"input": np.load(job.input)}

    def run(self) -> np.ndarray:
        return self.session.run(None, self.images)[0]


class OpenVino(Library):
    def __init__(self, job: Job) -> None:
        import numpy as np
        import openvino

        self.version = importlib.metadata.version("openvino")
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": job.threads,
            "NUM_STREAMS": 1,
        }
        self.request = openvino.Core().compile_model(job.onnx, "CPU", settings).create_infer_request()
        self.images = np.load(job.input)
        self.request.set_input_tensor(openvino.Tensor(self.images, shared_memory=True))

    def run(self) -> None:
        self.request.infer()

    def logits(self) -> np.ndarray:
        self.run()
        return self.request.get_output_tensor().data


class PyTorch(Library):
    """Eager PyTorch with channels last, the fastest layout on the CPU."""

    def __init__(self, job: Job) -> None:
        import numpy as np
        import torch
        from torch import nn

        from networks import Network

        self.version = torch.__version__
        torch.set_num_threads(job.threads)
        torch.set_num_interop_threads(1)
        torch.set_grad_enabled(False)
        network = Network.load(Path(job.weights))

        def with_parameters(layer: nn.Module, weight: np.ndarray, bias: np.ndarray) -> nn.Module:
            for parameter, value in zip(layer.parameters(), (weight, bias), strict=True):
                parameter.copy_(torch.from_numpy(value))
            return layer

        layers: list[nn.Module] = []
        for convolution in network.convolutions:
            filters, channels = convolution.weight.shape[:2]
            groups = convolution.groups
            layer = nn.Conv2d(channels * groups, filters, 3, convolution.stride, 1, groups=groups)
            layers += [with_parameters(layer, convolution.weight, convolution.bias), nn.ReLU(inplace=True)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        classes, channels = network.weight.shape
        layers += [with_parameters(nn.Linear(channels, classes), network.weight, network.bias)]
        self.network: Any = nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)
        self.images = torch.from_numpy(np.load(job.input)).to(memory_format=torch.channels_last)
        self.mode: Any = torch.inference_mode

    def run(self) -> Any:
        with self.mode():
            return self.network(self.images)

    def logits(self) -> np.ndarray:
        return self.run().numpy()


class PyTorchCompiled(PyTorch):
    """Compiled and frozen, so that weights are packed once. Freezing works without gradients, but not in inference mode."""

    def __init__(self, job: Job) -> None:
        os.environ["TORCHINDUCTOR_FREEZING"] = "1"
        super().__init__(job)
        import torch

        self.mode = torch.no_grad
        self.network = torch.compile(self.network)


ENGINES: dict[str, type[Engine]] = {
    "repvgg": Repvgg,
    "mnn": Mnn,
    "ncnn": Ncnn,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "pytorch": PyTorch,
    "pytorch-compiled": PyTorchCompiled,
}

RSS_UNIT = 2**-20 if sys.platform == "darwin" else 2**-10  # of ru_maxrss, in MiB


def peak_mib() -> float:
    """The largest resident size of this process in MiB."""
    try:
        # Not ru_maxrss, which starts at the size of the parent.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def convert_to_mnn(onnx: str, mnn: str) -> None:
    """Converts without `MNN.tools`, which installs a package and sends telemetry on import."""
    import MNN  # noqa: F401  (loads what the next import needs)
    from _tools import mnnconvert

    mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", onnx, "--MNNModel", f"{mnn}.part", "--bizCode", "rivals"])
    shutil.move(f"{mnn}.part", mnn)


def serve(name: str, job: Job) -> None:
    # Libraries print on import, so only replies go to the original standard output.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(reply: Reply) -> None:
        replies.write(json.dumps(reply) + "\n")

    try:
        engine = ENGINES[name](job)
        engine.measure(1)
    except Exception as error:  # an engine may fail in any way; its row states the reason
        answer({"absent": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    answer({"version": engine.version})
    gc.collect()
    gc.disable()
    for line in sys.stdin:
        match line.split(maxsplit=1):
            case ["run", count]:
                answer(engine.measure(int(count)))
            case ["logits", path]:
                engine.write_logits(path.strip())
                answer({})
            case _:
                raise ValueError(f"expected run K or logits FILE, found {line!r}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["mnn-convert", onnx, mnn]:
            convert_to_mnn(onnx, mnn)
        case [engine, job]:
            serve(engine, Job.load(Path(job)))
        case _:
            sys.exit(__doc__)
