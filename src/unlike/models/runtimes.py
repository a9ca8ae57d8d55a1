"""Runtimes: a frozen network, run in the fastest way at hand."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from unlike.errors import ConfigError

TOLERANCE = 1e-4  # of the largest value: how far a runtime's results may be from torch's own
BLOCK = 4  # images at once that torch and ONNX Runtime are fastest with: more do not fit the processor's caches

_JIT: Any = torch.jit  # deprecated, thus not typed; where a later torch is without it, so are the runtimes that need it

AT_ONCE = 1 << 19  # pixels of the images that are run together, 8 of 256 x 256: more take memory and no less time
Run = Callable[[Tensor], Tensor]  # (B, C, H, W) -> what the module gives for them
Compile = Callable[[nn.Module, Tensor, int], Run]  # a module, one example (1, C, H, W), how many threads to use


class Frozen(nn.Module):
    """A module that never learns, run by whatever runs it fastest: its results are those of the module itself.

    Its weights are fixed, its mode is that of use even while a model around it learns, and no gradient reaches them;
    the images' own gradients, where they are asked for, are torch's. On a CPU the module is compiled when it is first
    used, for each size of image, and again when its weights have changed; what was compiled is neither saved nor
    copied. Each image's result is its own, so the module must treat the images of a batch apart. `runtime` names one
    of `RUNTIMES`; "auto" takes the first that is installed and whose results are right. A ConfigError says why a named
    one cannot be had.

    >>> frozen = Frozen(nn.Conv2d(3, 8, 3), runtime="torch")
    >>> frozen(torch.zeros(2, 3, 5, 5)).shape
    torch.Size([2, 8, 3, 3])
    >>> frozen.train().training
    False
    """

    def __init__(self, module: nn.Module, runtime: str = "auto") -> None:
        super().__init__()
        check_installed(runtime)
        self.module = module.requires_grad_(requires_grad=False)
        self.compiled = Compiled(runtime)
        self.train()

    def train(self, mode: bool = True) -> Frozen:  # noqa: ARG002
        """It stays as it is used."""
        return super().train(mode=False)

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        explained = images.requires_grad and torch.is_grad_enabled()
        recorded = _JIT.is_tracing() or torch.compiler.is_compiling()  # to be exported, say
        if explained or recorded:
            return self.module(images)  # type: ignore[no-any-return]
        with torch.no_grad():
            if images.device.type == "cpu" and images.dtype == torch.float32:
                return self.compiled.run(self.module, images)
            return self.module(images)  # type: ignore[no-any-return]


class Compiled:
    """What a module became in a runtime, for each size of image; a copy starts anew."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self._tables: list[dict[str, Tensor | None]] = []  # of the module's weights, by name
        self._weights: list[tuple[int, int]] = []  # as they were compiled
        self._runs: dict[tuple[int, ...], Run] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Compiled], tuple[str]]:
        return type(self), (self.runtime,)

    def run(self, module: nn.Module, images: Tensor) -> Tensor:
        """The module's results for images (B, C, H, W)."""
        with self._lock, torch.autocast("cpu", enabled=False):
            self._forget_others(module)
            threads = torch.get_num_threads()
            key = (*images.shape[1:], threads)
            if key not in self._runs:
                self._runs[key] = compile_fastest(self.runtime, module, images.shape[1:], threads)
            height, width = images.shape[2:]
            parts = torch.split(images, max(1, AT_ONCE // (height * width)))
            return torch.cat([self._runs[key](part) for part in parts]) if len(parts) > 1 else self._runs[key](images)

    def _forget_others(self, module: nn.Module) -> None:
        """Drop what was compiled of other weights: where each lies, and how often it was written to, tells."""
        self._tables = self._tables or [table for part in module.modules() for table in _tables(part) if table]
        held = (weight for table in self._tables for weight in table.values() if weight is not None)
        weights = [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in held]  # noqa: SLF001
        if weights != self._weights:
            self._runs.clear()
            self._weights = weights


def check_installed(runtime: str) -> None:
    """Raise ConfigError where what a named runtime needs is not installed."""
    package, install = PACKAGES.get(runtime, ("torch", ""))
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"model.runtime: {runtime} is not installed: pip install {install}, or take auto")


def compile_fastest(runtime: str, module: nn.Module, size: torch.Size, threads: int) -> Run:
    """A module, for images of the size (C, H, W), in that runtime, or, for "auto", in the first that gives torch's results."""
    if runtime != "auto":
        try:
            return _compile(runtime, module, size, threads)
        except Exception as error:  # noqa: BLE001 (of any library)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ConfigError(
                f"model.runtime: {runtime} cannot run this network ({reason}); take auto or torch"
            ) from None
    for name in RUNTIMES:
        with contextlib.suppress(Exception):  # not installed, or a layer that it does not know
            return _compile(name, module, size, threads)
    return module


@torch.inference_mode(mode=False)
@torch.no_grad()
def _compile(runtime: str, module: nn.Module, size: torch.Size, threads: int) -> Run:
    """A module in a runtime, after a look whether it gives what torch gives."""
    check_installed(runtime)
    example = torch.rand(1, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with warnings.catch_warnings():  # of tracing, that torch means to replace it, and that sizes become constants
        warnings.simplefilter("ignore")
        run = RUNTIMES[runtime](module, example, threads)
        expected, found = module(example), run(example)
    gap = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not gap <= TOLERANCE:
        raise ArithmeticError(f"its results differ from torch's by {gap:.2g}")
    return run


def _by_openvino(module: nn.Module, example: Tensor, threads: int) -> Run:
    """One image a request, as many requests at a time as there are threads."""
    openvino = import_openvino()
    model = _to_openvino(module, example)
    model.reshape(list(example.shape))
    kinds = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": threads}

    @cache
    def start(streams: int) -> Any:
        return openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", {**kinds, "NUM_STREAMS": streams}))

    shape = tuple(model.output(0).shape)[1:]

    def run(images: Tensor) -> Tensor:
        results = torch.empty(len(images), *shape)
        filled, pixels = results.numpy(), images.contiguous().numpy()
        queue = start(threads if len(images) > 1 else 1)  # one image has all threads for itself
        queue.set_callback(lambda request, row: filled.__setitem__(row, request.get_output_tensor().data[0]))
        for row in range(len(images)):
            queue.start_async({0: pixels[row : row + 1]}, row, share_inputs=True)
        queue.wait_all()
        return results

    return run


def _to_openvino(module: nn.Module, example: Tensor) -> Any:
    """By OpenVINO's reader of torch modules itself: `openvino.convert_model` would report each use to its makers."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    reader = FrontEndManager().load_by_framework("pytorch")
    once = {"check_trace": False}  # what came out is compared with the module anyway
    decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs=once)  # must outlive the reading
    return reader.convert(reader.load(decoder))


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which sends usage data from the first import on unless it is not installed."""
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, and OpenVINO goes on without
    try:
        import openvino
    finally:
        del sys.modules[name]
        if known is not None:
            sys.modules[name] = known
    return openvino


def _by_onnxruntime(module: nn.Module, example: Tensor, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(_to_onnx(module, example), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])

    return _in_blocks(run, BLOCK)


def _to_onnx(module: nn.Module, example: Tensor) -> bytes:
    """By torch's older exporter: the newer one would need one more package, and seconds more."""
    file: Any = io.BytesIO()
    torch.onnx.export(
        module, (example,), file, dynamo=False, input_names=["images"], dynamic_axes={"images": {0: "batch"}}
    )
    content: bytes = file.getvalue()
    return content


def _by_torchscript(module: nn.Module, example: Tensor, threads: int) -> Run:  # noqa: ARG001 (torch's own)
    """Batch norms folded into convolutions, one image at a time."""
    example = example.contiguous(memory_format=torch.channels_last)
    frozen = _JIT.freeze(_JIT.trace(module, example, check_trace=False))
    return _in_blocks(lambda images: frozen(images.contiguous(memory_format=torch.channels_last)), 1)


def _by_torch(module: nn.Module, example: Tensor, threads: int) -> Run:  # noqa: ARG001
    return _in_blocks(lambda images: module(images.contiguous(memory_format=torch.channels_last)), BLOCK)


RUNTIMES: dict[str, Compile] = {  # the fastest first
    "openvino": _by_openvino,
    "onnxruntime": _by_onnxruntime,
    "torchscript": _by_torchscript,
    "torch": _by_torch,
}
CHOICES = ("auto", *RUNTIMES)
PACKAGES = {"openvino": ("openvino", "unlike[fast]"), "onnxruntime": ("onnxruntime", "onnxruntime")}  # to install


def _in_blocks(run: Run, size: int) -> Run:
    """The same for any number of images, a few at a time."""
    return lambda images: torch.cat([run(block) for block in torch.split(images, size)])


def _tables(part: nn.Module) -> tuple[dict[str, Tensor | None], ...]:
    """A layer's own weights as it holds them: asking every layer for its list takes longer than an image's first layers."""
    return part._parameters, part._buffers  # type: ignore[return-value]  # noqa: SLF001
