"""The page that lies in an export's folder: what is in it, and how to feed the graph from any language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VALUES = {
    "uint8": "8 bits, black 0, white 255",
    "uint16": "16 bits, black 0, white 65535",
    "float32": "floats, black {black:g}, white {white:g}",
}


def write_readme(facts: Mapping[str, Any]) -> str:
    """The page, from what the manifest says."""
    graph, fitted, proof = facts["graph"], facts["fitted"], facts["proof"]
    spec = fitted["spec"]
    height, width, channels = graph["shape"][1:]
    kind = VALUES[graph["pixels"]].format(black=fitted["black"], white=fitted["white"])
    feed = [
        (
            f"`pixels`: {graph['pixels']}, `batch x {height} x {width} x {channels}` (rows, columns, channels"
            f"{', colours in the order red, green, blue' if channels == 3 else ''}): {kind}. No other scaling: it is in the graph."
        )
    ]
    if "missing" in spec:
        feed.append(
            f"`missing`: bool, `batch x {height} x {width}`: true where a pixel has no value ({spec['missing']})."
        )
    returned = [
        f"`maps`: float32, `batch x {graph['maps'][1]} x {graph['maps'][2]}`: how strange each place is.",
        f"`scores`: float32, `batch`: above **{fitted['threshold']:.9g}** an image is anomalous ({fitted['promise']}).",
    ]
    if spec["bits"] < 16 and graph["pixels"] == "uint16":
        feed.append(
            f"A camera of {spec['bits']} bits: multiply its values by 65535 and divide by {2 ** spec['bits'] - 1}."
        )
    categories = [f"`{name}`: {one['threshold']:.9g}" for name, one in fitted.get("categories", {}).items()]
    if categories:
        returned.append(f"Of categories with a threshold of their own: {', '.join(categories)}.")
    how = (
        "its proportions kept, the rest filled up with its border"
        if spec["aspect"] == "pad"
        else "its proportions not kept"
    )
    sizes = (
        f"An image of another size is brought to {height} x {width}, {how}: averaged over areas along an axis that shrinks "
        "(OpenCV's INTER_AREA), and interpolated along one that grows (INTER_LINEAR)."
    )
    main = graph["files"][0]
    return PAGE.format(
        source=fitted["source"],
        main=main,
        files=" and ".join(f"`{name}`" for name in graph["files"]),
        runtime="ONNX Runtime" if graph["runtime"] == "onnx" else "OpenVINO",
        opset=graph["opset"],
        feed="\n".join(f"- {line}" for line in feed),
        returned="\n".join(f"- {line}" for line in returned),
        sizes=sizes,
        python=_python(graph["runtime"], main, "missing" in spec),
        images=len(proof["images"]),
        gap=f"{max(proof['score'], proof['map']):.1g}",
        tolerance=f"{proof['tolerance']:g}",
        processor=proof["processor"],
        precision=PRECISION[graph["runtime"]],
    )


def _python(runtime: str, main: str, has_missing: bool) -> str:
    more = ', "missing": missing' if has_missing else ""
    if runtime == "onnx":
        return (
            f'import onnxruntime\nsession = onnxruntime.InferenceSession("{main}")\n'
            f'maps, scores = session.run(["maps", "scores"], {{"pixels": pixels{more}}})'
        )
    return (
        f'import openvino\nmodel = openvino.Core().compile_model("{main}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})\n'
        f'found = model({{"pixels": pixels{more}}})\nmaps, scores = found["maps"], found["scores"]'
    )


PRECISION = {
    "onnx": "ONNX Runtime computes in single precision unless it is told otherwise.",
    "openvino": "Set INFERENCE_PRECISION_HINT to f32: on processors that have bfloat16 OpenVINO takes that by itself, and the scores are others.",
}
PAGE = """# A detector of what is unlike {source}

Written by `unlike export`. Nothing in this folder is run when it is read, and nothing is a pickle.

| file | what |
|---|---|
| {files} | the graph, from pixels to maps and scores, for {runtime} (ONNX opset {opset}) |
| `export.toml` | what goes in and comes out, thresholds, the proof, versions |
| `detector.toml` | every choice that made the detector |
| `calibration.npz` | scores of the held-out normal images: what p-values are of |
| `proof.npz` | the images of the proof, normal ones among them, and what the detector says of them |
| `checksums.sha256` | of each file: `sha256sum -c checksums.sha256` |

## With Python, and without torch

```sh
pip install unlike-runtime
unlike score THIS-FOLDER new/
unlike export --verify THIS-FOLDER
```

```python
from unlike.runtime import load

detector = load("THIS-FOLDER")
for verdict in detector.judge("new/"):
    print(verdict.id, verdict.score, verdict.p_value, verdict.anomalous, verdict.regions)
```

## From any other language

In go:

{feed}

Out come:

{returned}

The batch is any number from 1 on; an image has the same score alone and among others. {sizes} {precision}

```python
{python}
```

C++ and C# have the same calls: make a session of `{main}`, give it one tensor `pixels`, ask for `maps` and `scores`.
The p-value of a score is (1 + how many of `scores` in `calibration.npz` are as high or higher) / (1 + how many there are),
where each of m images that belong together (`groups`) counts 1/m.

## The proof

Before this was written, {images} images went through the detector in torch and through this graph, 1, 2 and 7 at once: scores and maps
differ by {gap} of themselves at most (allowed: {tolerance}), and no verdict does. On: {processor}. `unlike export --verify` repeats it on
the machine where it is to run.
"""
