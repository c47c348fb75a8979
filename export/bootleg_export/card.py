"""The model card of a bundle, written from what the manifest says and nothing else; its front matter is the hub's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bootleg_export.card_tables import head_table, parity_table, precision_tables, probe_table, table, text
from bootleg_export.card_usage import usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootleg_bundle.manifest import Architecture, Graph, Head, Outputs, Probe, Provenance
    from bootleg_bundle.preprocess import PreprocessSpec

TAGS = ("bootleg", "self-supervised", "vision-transformer", "image-embeddings", "onnx")


def model_card(fields: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> str:
    """Render Markdown.

    Args:
        fields: the manifest's, by name; ``files`` is not needed, for the card is one of them.
        sizes: bytes of the graphs' files, by name; those that are not there are not stated.
    """
    graphs: dict[str, Graph] = fields["graphs"]
    heads: dict[str, Head] = fields.get("heads", {})
    probes: tuple[Probe, ...] = fields.get("probes", ())
    spec: PreprocessSpec = fields["preprocess"]
    source: Provenance = fields["provenance"]
    sections = {
        "Use": usage(graphs, heads, spec),
        "Training": [_training(source)],
        "Probes": probe_table(probes),
        **({"Heads": head_table(heads, probes)} if heads else {}),
        "Precisions": precision_tables(graphs, fields.get("tasks", ()), sizes or {}),
        "Parity with PyTorch in float32": parity_table(fields["parity"]),
        "Limits": [_limits(source, spec)],
        "Licence": [_licence(source)],
    }
    lines = [*_front_matter(fields["name"], heads), "", f"# {fields['name']}", "", *_summary(fields)]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _front_matter(name: str, heads: Mapping[str, Head]) -> list[str]:
    tags = [*TAGS, *(["image-segmentation"] if heads else [])]
    return [
        "---",
        f"model_name: {_yaml(name)}",
        "library_name: onnx",
        "pipeline_tag: image-feature-extraction",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
    ]


def _summary(fields: Mapping[str, Any]) -> list[str]:
    shape: Architecture = fields["architecture"]
    outputs: Outputs = fields["outputs"]
    spec: PreprocessSpec = fields["preprocess"]
    share = "" if spec.crop_ratio == 1 else f"{spec.crop_ratio:g} of "
    encoder = (
        f"{shape.name}: width {shape.width}, {shape.depth} blocks, {shape.heads} heads, patch {shape.patch_size}, "
        f"{shape.registers} registers, {shape.parameters / 1e6:.1f} M parameters"
    )
    rows = [
        ("encoder", encoder),
        ("input", f"{spec.width} x {spec.height} RGB; {share}the largest centre box, {spec.resample}"),
        ("embedding", f"{outputs.dim} numbers; mean patch token after the final norm, not normalised"),
        ("patch tokens", f"{outputs.grid[0]} x {outputs.grid[1]} x {outputs.dim}"),
        ("hidden layers", f"blocks {', '.join(map(str, outputs.layers))}"),
        ("embedding space", f"`{fields['embedding_space']}`"),
    ]
    method = text(fields["provenance"].method)
    return [f"A vision transformer encoder pretrained without labels by {method}.", "", *table(("", ""), rows)]


def _training(source: Provenance) -> str:
    if not source.steps:
        return "Not trained here: the weights were imported; their file says no more about their training."
    before = "; then ".join(
        f"{run.images_seen:,} images of {text(run.dataset)} by {text(run.method)}" for run in source.ancestors
    )
    return (
        f"{source.images_seen:,} images seen ({source.steps:,} steps) of {text(source.dataset)}, in "
        f"{source.training_seconds / 3600:.2f} hours on {text(source.hardware)}. Data fingerprint "
        f"`{text(source.dataset_fingerprint[:16])}`, commit `{text(source.commit)}`."
        + (f" It began with the weights of an earlier run: {before}." if before else "")
    )


def _limits(source: Provenance, spec: PreprocessSpec) -> str:
    return (
        f"Features are those of {text(source.dataset)} at {spec.width} x {spec.height} pixels: small objects and fine "
        "texture in large photographs are lost. Not evaluated for bias; do not use it to decide about people."
    )


def _licence(source: Provenance) -> str:
    return (
        "Made with bootleg-vision, which is Apache-2.0. The manifest states no licence of the weights: whoever "
        f"publishes them does, with an eye on the terms of {text(source.dataset)}."
    )


def _yaml(words: str) -> str:
    """A YAML string that no reader takes for something else: quoted, and anything but plain ASCII escaped."""
    return (
        '"'
        + "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in words)
        + '"'
    )
