"""Runtimes: a frozen network, run in the fastest way at hand."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unlike.backbones.lazy_network import materialise
from unlike.backbones.network_cache import CachedNetwork
from unlike.backbones.telemetry import import_openvino
from unlike.errors import ConfigError

TOLERANCE = 1e-4  # of the largest value: how far a runtime's results may be from torch's own
BLOCK = 4  # images at once that torch and ONNX Runtime are fastest with: more do not fit the processor's caches

_JIT: Any = torch.jit  # deprecated, thus not typed; where a later torch is without it, so are the runtimes that need it

AT_ONCE = 1 << 19  # pixels of the images that are run together, 8 of 256 x 256: more take memory and no less time
Entry = TypeVar("Entry")
Run = Callable[[Tensor], Tensor]  # (B, C, H, W) -> what the module gives for them
Compile = Callable[[nn.Module, Tensor, int], Run]  # a module, one example (1, C, H, W), how many threads to use


class Frozen(nn.Module):
    """A module that never learns, run by whatever runs it fastest: its results are those of the module itself.

    Its weights are fixed, its mode is that of use even while a model around it learns, and no gradient reaches them;
    the images' own gradients, where they are asked for, are torch's. On a CPU the module is compiled when it is first
    used, for each size of image, and again when its weights have changed or a layer was exchanged; what was compiled is
    neither saved nor copied. Each image's result is its own, so the module must treat the images of a batch apart.
    `runtime` names one of `RUNTIMES`; "auto" takes the first that is installed and whose results are right. A ConfigError
    says why a named one cannot be had.

    What a `cached` network was compiled to in an earlier run is taken instead of compiling it, and what is compiled is
    cached; a `LazyNetwork` then never needs its layers. Where its layers are needed, as for gradients, on another device
    or in another type, they are made. A module whose layers somebody has changed by hand is compiled, but neither cached
    nor taken from the cache.

    >>> frozen = Frozen(nn.Conv2d(3, 8, 3), runtime="torch")
    >>> frozen(torch.zeros(2, 3, 5, 5)).shape
    torch.Size([2, 8, 3, 3])
    >>> frozen.train().training
    False
    """

    def __init__(self, module: nn.Module, runtime: str = "auto", cached: CachedNetwork | None = None) -> None:
        super().__init__()
        check_installed(runtime)
        self.module = module.requires_grad_(requires_grad=False)
        self.compiled = Compiled(runtime, cached)
        self.train()

    def train(self, mode: bool = True) -> Frozen:  # noqa: ARG002
        """It stays as it is used."""
        return super().train(mode=False)

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        if is_recorded():
            return self.module(images)  # type: ignore[no-any-return]
        if images.requires_grad and torch.is_grad_enabled():
            return self._with_layers()(images)  # type: ignore[no-any-return]
        with torch.no_grad():
            if images.device.type == "cpu" and images.dtype == torch.float32:
                return self.compiled.run(self.module, images)
            return self._with_layers()(images)  # type: ignore[no-any-return]

    def _with_layers(self) -> nn.Module:
        """The module itself, for what a compiled one cannot do."""
        self.module = materialise(self.module)
        return self.module


def is_recorded() -> bool:
    """Whether a graph of what is computed is being made, to be compiled or exported, say."""
    return bool(_JIT.is_tracing() or torch.compiler.is_compiling() or torch.compiler.is_exporting())


class Compiled:
    """What a module became in a runtime, for each size of image; a copy starts anew, and caches nothing."""

    def __init__(self, runtime: str, cached: CachedNetwork | None = None) -> None:
        self.runtime, self.cached = runtime, cached
        self._module: nn.Module | None = None  # of which the tables are
        self._children: list[dict[str, nn.Module | None]] = []  # tables of its layers, by name
        self._layers: list[nn.Module | None] = []  # as they were compiled
        self._tables: list[dict[str, Tensor | None]] = []  # of its weights, by name
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
                self._runs[key] = self._start(module, images.shape[1:], threads)
            height, width = images.shape[2:]
            parts = torch.split(images, max(1, AT_ONCE // (height * width)))
            return torch.cat([self._runs[key](part) for part in parts]) if len(parts) > 1 else self._runs[key](images)

    def _start(self, module: nn.Module, size: torch.Size, threads: int) -> Run:
        """The module as it was compiled for images of that size once, or as it is compiled now."""
        cached = self._entry_of(module)
        name = "" if cached is None else cached.name(module, size)
        if cached is not None and (folder := cached.cache.unseal(name, CACHED_FILES)) is not None:
            try:
                return OpenVINORun.read(folder, size, threads)
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 (whatever a reader says of what it does not know)
                cached.cache.drop(name)
        run = compile_fastest(self.runtime, materialise(module), size, threads)
        if cached is not None and isinstance(run, OpenVINORun):
            cached.write(name, run.write)
        return run

    def _entry_of(self, module: nn.Module) -> CachedNetwork | None:
        """The network in the cache, if there is one, and its digests tell all of what would be compiled."""
        if self.cached is None or self.runtime not in ("auto", CACHED_RUNTIME) or not is_installed(CACHED_RUNTIME):
            return None
        return self.cached if self.cached.describes(module) else None

    def _forget_others(self, module: nn.Module) -> None:
        """Drop what was compiled of other layers or weights: where each lies, and how often it was written to, tells."""
        if self._module is not module or self._layers != _values(self._children):
            parts = list(module.modules())
            self._module, self._children = module, [part._modules for part in parts]  # noqa: SLF001
            self._layers = _values(self._children)
            self._tables = [table for part in parts for table in _tables(part) if table]
            self._runs.clear()
        held = (weight for weight in _values(self._tables) if weight is not None)
        weights = [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in held]  # noqa: SLF001
        if weights != self._weights:
            self._runs.clear()
            self._weights = weights


def is_installed(runtime: str) -> bool:
    """Whether what a runtime needs is here."""
    return runtime not in PACKAGES or importlib.util.find_spec(PACKAGES[runtime][0]) is not None


def check_installed(runtime: str) -> None:
    """Raise ConfigError where what a named runtime needs is not installed."""
    if not is_installed(runtime):
        raise ConfigError(
            f"model.runtime: {runtime} is not installed: pip install {PACKAGES[runtime][1]}, or take auto"
        )


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
    """A module in a runtime, once it is known to give what torch gives."""
    check_installed(runtime)
    example = _example(size)
    with warnings.catch_warnings():  # of tracing, that torch means to replace it, and that sizes become constants
        warnings.simplefilter("ignore")
        run = RUNTIMES[runtime](module, example, threads)
        expected = module(example)
        _compare(run(example), expected)
    if isinstance(run, OpenVINORun):
        run.expected = expected
    return run


def _example(size: torch.Size) -> Tensor:
    return torch.rand(1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float32) * 2 - 1


def _compare(found: Tensor, expected: Tensor) -> None:
    """Raise ArithmeticError where results are not torch's."""
    gap = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not gap <= TOLERANCE:
        raise ArithmeticError(f"its results differ from torch's by {gap:.2g}")


def _by_openvino(module: nn.Module, example: Tensor, threads: int) -> Run:
    """By way of the model as it is written down: as it was traced, its last digits would differ from those of a cached one."""
    model = _to_openvino(module, example)
    model.reshape(list(example.shape))
    with contextlib.suppress(OSError, RuntimeError), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        _write_model(model, Path(folder))  # where there is room
        model = _read_model(Path(folder))
    return OpenVINORun(model, threads)


class OpenVINORun:
    """One image a request, as many requests at a time as there are threads."""

    def __init__(self, model: Any, threads: int) -> None:
        self.model, self.threads = model, threads
        self.shape = tuple(model.output(0).shape)[1:]
        self.expected: Tensor | None = None  # what torch gives for an example
        self._queues: dict[int, Any] = {}  # by how many images are run side by side

    def __call__(self, images: Tensor) -> Tensor:
        results = torch.empty(len(images), *self.shape)
        filled, pixels = results.numpy(), images.contiguous().numpy()
        queue = self._queue(self.threads if len(images) > 1 else 1)  # one image has all threads for itself
        queue.set_callback(lambda request, row: filled.__setitem__(row, request.get_output_tensor().data[0]))
        for row in range(len(images)):
            queue.start_async({0: pixels[row : row + 1]}, row, share_inputs=True)
        queue.wait_all()
        return results

    def write(self, folder: Path) -> None:
        """The model, and what torch gave for an example."""
        assert self.expected is not None, "it was not compared"
        _write_model(self.model, folder)
        save_file({"expected": self.expected.contiguous()}, folder / CACHED_FILES[-1])

    @classmethod
    def read(cls, folder: Path, size: torch.Size, threads: int) -> OpenVINORun:
        """What `write` wrote, compared anew: this may be another processor. An ArithmeticError where it is not the same."""
        run = cls(_read_model(folder), threads)
        run.expected = load_file(folder / CACHED_FILES[-1])["expected"]
        _compare(run(_example(size)), run.expected)
        return run

    def _queue(self, streams: int) -> Any:
        if streams not in self._queues:
            openvino = import_openvino()
            kinds = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False, "NUM_STREAMS": streams}
            compiled = openvino.Core().compile_model(
                self.model, "CPU", {**kinds, "INFERENCE_NUM_THREADS": self.threads}
            )
            self._queues[streams] = openvino.AsyncInferQueue(compiled)
        return self._queues[streams]


def _write_model(model: Any, folder: Path) -> None:
    """In OpenVINO's own format, and in full precision; a RuntimeError where there is no room."""
    import_openvino().save_model(model, folder / CACHED_FILES[0], compress_to_fp16=False)


def _read_model(folder: Path) -> Any:
    return import_openvino().Core().read_model(folder / CACHED_FILES[0])


def _to_openvino(module: nn.Module, example: Tensor) -> Any:
    """By OpenVINO's reader of torch modules itself: `openvino.convert_model` would report each use to its makers."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    reader = FrontEndManager().load_by_framework("pytorch")
    once = {"check_trace": False}  # what came out is compared with the module anyway
    decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs=once)  # must outlive the reading
    return reader.convert(reader.load(decoder))


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
CACHED_RUNTIME = "openvino"  # the one whose networks can be written down
CACHED_FILES = ("network.xml", "network.bin", "expected.safetensors")
PACKAGES = {  # the module of a runtime, and what to install for it; torch's exporter needs onnx
    "openvino": ("openvino", "unlike[fast]"),
    "onnxruntime": ("onnxruntime", "onnx onnxruntime"),
}


def _in_blocks(run: Run, size: int) -> Run:
    """The same for any number of images, a few at a time."""
    return lambda images: torch.cat([run(block) for block in torch.split(images, size)])


def _values(tables: list[dict[str, Entry]]) -> list[Entry]:
    return [value for table in tables for value in table.values()]


def _tables(part: nn.Module) -> tuple[dict[str, Tensor | None], ...]:
    """A layer's own weights as it holds them: asking every layer for its list takes longer than an image's first layers."""
    return part._parameters, part._buffers  # type: ignore[return-value]  # noqa: SLF001
