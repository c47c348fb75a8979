"""One ONNX graph to one serialised engine, with TensorRT's builder.

Strongly typed: the graph says every precision, and the builder keeps it. ``make_engine`` calls this
with TensorRT; a test calls it with TensorRT for RTX, which has the same interface and needs no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import EngineBuildError
from bootleg_bundle.manifest import GRAPH_INPUT

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Build:
    """A parsed graph with its builder and configuration, ready to run.

    Attributes:
        config: TensorRT's ``IBuilderConfig``.
    """

    graph: str
    config: Any
    _builder: Any
    _network: Any
    _parser: Any  # holds the weights until the build is done
    _logger: Any

    def run(self) -> bytes:
        """Build; takes seconds to minutes.

        Raises:
            EngineBuildError: with the builder's last complaint.
        """
        plan = self._builder.build_serialized_network(self._network, self.config)
        if plan is None:
            raise EngineBuildError(f"TensorRT cannot build {self.graph}: {_last(self._logger.errors)}")
        return bytes(plan)

    def timings(self) -> bytes:
        """The timing cache after the build, for the next one on this machine."""
        return bytes(self.config.get_timing_cache().serialize())


def prepare(trt: Any, logger: Any, graph: Path, input_row: tuple[int, int, int], batches: tuple[int, ...]) -> Build:
    """Parse a graph and configure its build.

    One profile for each batch bucket, not one for all: kernels are then chosen for the sizes that are
    run, a lone image included, at the price of a longer build and a larger engine.

    Args:
        trt: the module ``tensorrt``.
        logger: of :func:`bootleg_service.tensorrt.library.make_logger`.
        graph: the ONNX file; external data beside it.
        input_row: ``(H, W, 3)``.
        batches: the buckets' largest sizes, ascending; a bucket begins above the one before it.

    Raises:
        EngineBuildError: TensorRT cannot parse the graph; names the operator.
    """
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise EngineBuildError(f"TensorRT cannot parse {graph.name}: {_parser_error(parser)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # BUILDER_FLAGS says why
    smallest = 1
    for largest in batches:
        profile = builder.create_optimization_profile()
        # The opt shape is the largest: a full bucket is what a busy service runs.
        profile.set_shape(GRAPH_INPUT, (smallest, *input_row), (largest, *input_row), (largest, *input_row))
        if config.add_optimization_profile(profile) < 0:
            raise EngineBuildError(f"TensorRT refuses batches of {smallest} to {largest}: {_last(logger.errors)}")
        smallest = largest + 1
    return Build(graph.name, config, builder, network, parser, logger)


def use_timings(build: Build, timings: bytes) -> None:
    """Let a build begin from the timings of earlier ones on the same GPU and TensorRT; others' are left aside."""
    if not build.config.set_timing_cache(build.config.create_timing_cache(timings), ignore_mismatch=False):
        build.config.set_timing_cache(build.config.create_timing_cache(b""), ignore_mismatch=False)


def _parser_error(parser: Any) -> str:
    if not parser.num_errors:
        return "it gave no reason"
    error = parser.get_error(0)
    return f"{error.node_operator()} {error.node_name()}: {error.desc()}"


def _last(errors: list[str]) -> str:
    return errors[-1] if errors else "it gave no reason"
