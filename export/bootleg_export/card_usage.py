"""How to use a bundle, for its model card: commands, and Python that needs ONNX Runtime and Pillow alone.

The suite runs the Python as it stands in the card, and compares its pixels and vectors with the project's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootleg_bundle.manifest import Graph, Head
    from bootleg_bundle.preprocess import PreprocessSpec

_ADVICE = (
    "This serves opaque 8-bit images. `bootleg_bundle.images.decode` and `bootleg_bundle.preprocess.apply` do the same "
    "for transparency, 16 bits and damaged files, under limits. The vectors are not normalised: take off the mean of "
    "your collection, then L2-normalise, before you compare them by cosine."
)


def usage(graphs: Mapping[str, Graph], heads: Mapping[str, Head], spec: PreprocessSpec) -> list[str]:
    """Render Markdown lines."""
    return [
        "As a service, with this directory as BUNDLE:",
        "",
        "```sh",
        "pip install 'bootleg-vision[cpu]'",
        "bootleg serve --bundle BUNDLE",
        "curl -s --data-binary @a.jpg http://127.0.0.1:8000/v1/images/embeddings",
        "```",
        "",
        "In Python, in this directory, with onnxruntime and Pillow:",
        "",
        "```python",
        *_python(graphs["fp32"], heads, spec),
        "```",
        "",
        _ADVICE,
    ]


def _python(graph: Graph, heads: Mapping[str, Head], spec: PreprocessSpec) -> list[str]:
    tokens = dict.fromkeys(["patch_tokens", *(head.input for head in heads.values())])
    outputs = ["embedding", *tokens]
    lines = [
        "import numpy as np",
        "import onnxruntime as ort",
        "from PIL import Image, ImageOps",
        "",
        'image = ImageOps.exif_transpose(Image.open("a.jpg")).convert("RGB")',
        f"scale = {spec.crop_ratio!r} * min(image.height / {spec.height}, image.width / {spec.width})",
        f"box_h, box_w = min(image.height, scale * {spec.height}), min(image.width, scale * {spec.width})",
        "left, top = (image.width - box_w) / 2, (image.height - box_h) / 2",
        "box = (left, top, left + box_w, top + box_h)",
        f"resized = image.resize(({spec.width}, {spec.height}), Image.Resampling.{spec.resample.upper()}, box=box)",
        f"pixels = np.asarray(resized)[None]  # uint8 [1, {spec.height}, {spec.width}, 3]; the graph normalises",
        "",
        f'encoder = ort.InferenceSession("{graph.file}", providers=["CPUExecutionProvider"])',
        f"outputs = {outputs!r}".replace("'", '"'),
        'found = dict(zip(outputs, encoder.run(outputs, {"pixels": pixels})))',
        'vector = found["embedding"][0]',
    ]
    for name, head in heads.items():
        lines += [
            "",
            f'head = ort.InferenceSession("{head.graph.file}", providers=["CPUExecutionProvider"])  # {name}',
            f'(logits,) = head.run(["logits"], {{"{head.input}": found["{head.input}"]}})',
            f"classes = logits[0].argmax(axis=0)  # [{head.grid[0]}, {head.grid[1]}]; for pixels, enlarge logits first",
        ]
    return lines
