"""Other people's trackers beside ``metrics.jsonl``: TensorBoard, Weights & Biases, MLflow; each an extra.

The command line opens those asked for by name, the run's log feeds them. A tracker that cannot be
opened is refused before the run begins; one that fails later never stops it.
"""

from __future__ import annotations

import importlib
import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bootleg_bundle.errors import ConfigError
from bootleg_training.compose import flat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bootleg_training.config import RunConfig

_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Takes the numbers of a run."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Take numbers by name; several calls may have the same step."""

    def close(self) -> None:
        """Hand over what is left."""


class Guarded:
    """A tracker whose failures are counted, and said once.

    Attributes:
        failures: calls that failed.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.failures = 0
        self._name = name
        self._tracker = tracker

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Pass the numbers on."""
        try:
            self._tracker.log(step, numbers)
        except Exception as error:  # noqa: BLE001  # a full disk or a lost network there is no reason to stop here
            self._failed(error)

    def close(self) -> None:
        """Close the tracker and say how often it failed."""
        try:
            self._tracker.close()
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(error)
        if self.failures:
            _log.warning("tracker %s failed %d times; metrics.jsonl has everything", self._name, self.failures)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1:
            _log.warning("tracker %s fails (%s); the run goes on without it", self._name, type(error).__name__)


def open_tracker(name: str, out: Path, config: RunConfig, *, from_step: int = 0) -> Tracker:
    """Open a tracker for the run in ``out``; a resumed run goes on in the tracker's own run.

    Args:
        name: ``tensorboard`` writes below ``out/tensorboard``; ``wandb`` below ``out``, and obeys its own variables
            (``WANDB_MODE=offline`` needs no account); ``mlflow`` to ``out/mlflow.db``, unless its own
            variable ``MLFLOW_TRACKING_URI`` names a server.
        out: run folder.
        config: recorded with the run.
        from_step: the step that the run goes on from; what a crashed run has logged beyond it is logged again.

    Raises:
        ConfigError: an unknown name, an extra that is not installed, or a tracker that does not start.
    """
    openers: dict[str, Callable[[Path, RunConfig], Tracker]] = {
        "tensorboard": partial(_TensorBoard, from_step=from_step),
        "wandb": _Wandb,
        "mlflow": _Mlflow,
    }
    if name not in openers:
        raise ConfigError(f"tracker {name!r}: use {', '.join(openers)}")
    try:
        return Guarded(name, openers[name](out, config))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tracker {name} is not installed; install it with: pip install 'bootleg-vision[{name}]'"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"tracker {name} does not start ({type(error).__name__}); see its own output above"
        ) from error


class _TensorBoard:
    def __init__(self, out: Path, config: RunConfig, *, from_step: int) -> None:
        again = from_step + 1 if from_step else 0  # a run that begins anew measures its step 0 again
        writer = _module("torch.utils.tensorboard").SummaryWriter
        self._writer: Any = writer(str(out / "tensorboard"), purge_step=again)  # TensorBoard hides the earlier ones
        self._writer.add_text("config", f"```json\n{config.model_dump_json(indent=2)}\n```")

    def log(self, step: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, out: Path, config: RunConfig) -> None:
        self._run: Any = _module("wandb").init(
            project="bootleg",
            name=config.name,
            id=_identity(out / "wandb-run"),
            resume="allow",
            dir=str(out),
            config=config.model_dump(mode="json"),
        )

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, out: Path, config: RunConfig) -> None:
        mlflow = _module("mlflow")
        home = None if mlflow.is_tracking_uri_set() else out.resolve()
        # A database file: mlflow 3 refuses its older folder of files unless a variable allows it.
        self._client: Any = mlflow.MlflowClient(tracking_uri=home and f"sqlite:///{home / 'mlflow.db'}")
        self._entity: Any = _module("mlflow.entities").Metric
        kept = out / "mlflow-run"
        if not kept.is_file():
            experiment = self._client.get_experiment_by_name("bootleg")
            artifacts = home and (home / "mlartifacts").as_uri()  # else a folder where the command was started
            place = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment("bootleg", artifact_location=artifacts)
            )
            run = self._client.create_run(place, run_name=config.name)
            for key, value in flat(config.model_dump(mode="json")).items():
                self._client.log_param(run.info.run_id, key, value)
            kept.write_text(run.info.run_id, encoding="utf-8")
        self._run_id = kept.read_text(encoding="utf-8")

    def log(self, step: int, numbers: dict[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self._entity(name, number, now, step) for name, number in numbers.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _identity(kept: Path) -> str:
    """A name for the run at a tracker, made once and kept in the run folder."""
    if not kept.is_file():
        kept.write_text(secrets.token_hex(8), encoding="utf-8")
    return kept.read_text(encoding="utf-8")
