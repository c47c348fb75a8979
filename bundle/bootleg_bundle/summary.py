"""What a bundle holds, in lines for people; ``bootleg bundle show`` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootleg_bundle.bundle import Bundle
    from bootleg_bundle.manifest import Graph, Manifest


def summary(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Give pairs of a name and what there is to say of it; a name may come again."""
    manifest = bundle.manifest
    shape, spec, outputs = manifest.architecture, manifest.preprocess, manifest.outputs
    yield "name", manifest.name
    yield "path", str(bundle.path)
    yield "sha256", bundle.sha256
    yield "embedding space", manifest.embedding_space
    yield "encoder", f"{shape.name}, {shape.parameters / 1e6:.1f} M parameters"
    yield "input", f"{spec.width} x {spec.height} RGB, {spec.resample}, centre {spec.crop_ratio:g}"
    yield (
        "outputs",
        (
            f"embedding {outputs.dim}; patch tokens {outputs.grid[0]} x {outputs.grid[1]} x {outputs.dim}; "
            f"layers {', '.join(map(str, outputs.layers))}"
        ),
    )
    for precision, graph in manifest.graphs.items():
        yield "graph", f"{precision}, {_megabytes(manifest, graph)}, opset {graph.opset}"
    for name, head in manifest.heads.items():
        yield "head", f"{name}, {head.kind} on {head.input}, {len(head.classes)} classes"
    for probe in manifest.probes:
        twin = "" if probe.random_init is None else f"; untrained twin {probe.random_init:.3f}"
        yield "probe", f"{probe.probe} on {probe.dataset}: {probe.metric} {probe.value:.3f}{twin}"
    yield "trained on", manifest.provenance.dataset


def _megabytes(manifest: Manifest, graph: Graph) -> str:
    return f"{sum(manifest.files[file].bytes for file in (graph.file, *graph.external_data)) / 1e6:.1f} MB"
