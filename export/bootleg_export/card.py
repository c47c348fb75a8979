"""The model card of a bundle, written from what the manifest says and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootleg_bundle.manifest import Architecture, Outputs, Parity, Probe, Provenance
    from bootleg_bundle.preprocess import PreprocessSpec


def model_card(fields: Mapping[str, Any]) -> str:
    """Render Markdown from the manifest's fields."""
    shape: Architecture = fields["architecture"]
    source: Provenance = fields["provenance"]
    outputs: Outputs = fields["outputs"]
    spec: PreprocessSpec = fields["preprocess"]
    probes: tuple[Probe, ...] = fields["probes"]
    parity: tuple[Parity, ...] = fields["parity"]
    hours = source.training_seconds / 3600
    lines = [
        f"# {fields['name']}",
        "",
        f"A vision transformer encoder pretrained without labels by {source.method}.",
        "",
        "| | |",
        "| --- | --- |",
        (
            f"| encoder | {shape.name}: width {shape.width}, {shape.depth} blocks, {shape.heads} heads, "
            f"patch {shape.patch_size}, {shape.registers} registers, {shape.parameters / 1e6:.1f} M parameters |"
        ),
        f"| input | {spec.width} x {spec.height} RGB; centre square, {spec.resample} |",
        f"| embedding | {outputs.dim} numbers; mean patch token after the final norm, not normalised |",
        f"| patch tokens | {outputs.grid[0]} x {outputs.grid[1]} x {outputs.dim} |",
        f"| hidden layers | blocks {', '.join(map(str, outputs.layers))} |",
        f"| embedding space | `{fields['embedding_space']}` |",
        "",
        "## Training",
        "",
        (
            f"{source.images_seen:,} images seen ({source.steps:,} steps) of {source.dataset}, in {hours:.2f} hours on "
            f"{source.hardware}. Data fingerprint `{source.dataset_fingerprint[:16]}`, commit `{source.commit}`."
            if source.steps
            else "Not trained here: the weights were imported; their file says no more about their training."
        ),
        "",
        "## Probes",
        "",
    ]
    if probes:
        lines += ["Frozen features; the twin is the same encoder before any training.", ""]
        lines += [
            "| probe | data | metric | value | untrained twin | protocol |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {p.probe} | {p.dataset} | {p.metric} | {p.value:.3f} | "
            f"{'' if p.random_init is None else f'{p.random_init:.3f}'} | {p.detail} |"
            for p in probes
        ]
    else:
        lines += ["None were run."]
    lines += ["", "## Parity with PyTorch in float32", ""]
    lines += [
        "| precision | output | images | relative Frobenius | smallest cosine |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {p.precision} | {p.output} | {p.images} | {p.relative_frobenius:.1e} | {p.cosine_min:.7f} |" for p in parity
    ]
    lines += [
        "",
        "## Limits",
        "",
        (
            f"Features are those of {source.dataset} at {spec.width} x {spec.height} pixels: small objects and fine "
            "texture in large photographs are lost. Not evaluated for bias; do not use it to decide about people."
        ),
        "",
    ]
    return "\n".join(lines)
