"""The graphs of a bundle in the making: each is exported, judged, and kept only when it passes.

Build makes one for a bundle, adds fp32 first, then each precision asked for. A graph that fails leaves no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bootleg_bundle.errors import BundleFileError, ParityError
from bootleg_bundle.manifest import Graph, Parity, Task
from bootleg_export.external_data import save_model
from bootleg_export.graph import reference_outputs
from bootleg_export.judge import NO_KERNELS, NOISE_IMAGES, PARITY_BATCHES, GraphFile, judged_images
from bootleg_export.parity import GATES, measure
from bootleg_export.precisions import make_model, opset_of
from bootleg_export.samples import natural_noise
from bootleg_export.tasks import task_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_export.calibration import CalibrationImages
    from bootleg_export.graph import ServingGraph
    from bootleg_export.heads import HeadGraphs


class Candidates:
    """Graphs that were judged.

    Attributes:
        graphs: what passed, by precision, for the manifest.
        parity: measurements of what passed.
        tasks: what the precisions that passed cost on labelled images.
        refused: by precision, the bound that it broke.
    """

    def __init__(
        self,
        folder: Path,
        graph: ServingGraph,
        spec: PreprocessSpec,
        calibration: CalibrationImages | None,
        heads: HeadGraphs,
    ) -> None:
        self.graphs: dict[str, Graph] = {}
        self.parity: tuple[Parity, ...] = ()
        self.tasks: tuple[Task, ...] = ()
        self.refused: dict[str, str] = {}
        self._folder, self._graph, self._spec, self._calibration = folder, graph, spec, calibration
        self._heads = heads
        noise = natural_noise(NOISE_IMAGES, spec.height, spec.width)
        self._pixels = noise if calibration is None else np.concatenate([noise, calibration.judged])
        self._reference = reference_outputs(graph, self._pixels)

    @property
    def files(self) -> list[str]:
        """Names of every file of the graphs that passed."""
        return [name for graph in self.graphs.values() for name in (graph.file, *graph.external_data)]

    def add(self, precision: str, *, external: bool) -> None:
        """Export and judge one precision.

        Raises:
            ParityError: fp32 failed, without which there is no bundle.
        """
        ranges = None if self._calibration is None else self._calibration.ranges
        operators = ("linear",) if self._calibration is None else self._calibration.record.operators
        path = self._folder / f"encoder.{precision}.onnx"
        model = make_model(self._graph, precision, ranges, operators, external=external)
        file = GraphFile(precision, path, save_model(model, path, external=external))
        try:
            parity, invariance, fault = self._judge(file)
        except BundleFileError as error:  # this runtime cannot even run it
            parity, invariance, fault = (), None, error.message
        if fault is not None:
            self._refuse(file, fault)
            return
        self.parity += parity
        self.graphs[precision] = Graph(
            file=path.name,
            opset=opset_of(precision, operators),
            external_data=file.external,
            calibration=self._calibration.record if precision == "int8" and self._calibration else None,
            batch_invariance=invariance,
        )

    def try_tasks(self, measure: Callable[[Iterable[GraphFile]], tuple[Task, ...]]) -> None:
        """Score what passed, as ``measure`` does for the graphs it is given, and refuse what loses too much."""
        files = {
            precision: GraphFile(precision, self._folder / graph.file, graph.external_data)
            for precision, graph in self.graphs.items()
            if precision not in NO_KERNELS
        }
        found = measure(files.values())
        for task in found:
            fault = task_fault(task)
            if fault is not None and task.precision in self.graphs:
                self._refuse(files[task.precision], fault)
        self.tasks = tuple(task for task in (*self.tasks, *found) if task.precision in self.graphs)

    def _judge(self, file: GraphFile) -> tuple[tuple[Parity, ...], float | None, str | None]:
        chosen = judged_images(file.precision, NOISE_IMAGES, len(self._pixels) - NOISE_IMAGES)
        expected = {name: array[chosen] for name, array in self._reference.items()}
        outputs = file.run(self._pixels[chosen], PARITY_BATCHES)
        parity = measure(file.precision, expected, outputs) + self._heads.measure(file.precision, expected, outputs)
        for row in parity:
            if (fault := GATES[file.precision].fault(row)) is not None:
                return parity, None, f"{row.output}: {fault}"
        invariance = file.batch_invariance(self._spec.height, self._spec.width)
        return parity, invariance, file.invariance_fault(invariance)

    def _refuse(self, file: GraphFile, fault: str) -> None:
        if file.precision == "fp32":
            raise ParityError(f"fp32 {fault}")
        self.refused[file.precision] = fault
        self.graphs.pop(file.precision, None)
        self.parity = tuple(row for row in self.parity if row.precision != file.precision)
        for path in (file.path, *(file.path.with_name(name) for name in file.external)):
            path.unlink()
