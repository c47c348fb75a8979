"""Every finished run of a folder on the same probes: methods and target layers compared, several seeds each.

    python -m benchmarks.study RUNS --train PACK --test PACK [--kinds knn,linear,attentive] [--which teacher,student]

Writes ``results/study.json``. What was probed once is kept beside the run (``RUNS/NAME/probes.json``, by the hash of
the weights and of both packs), so that a second call probes new runs only; the untrained twins and raw pixels are kept
in ``RUNS/probes.json``. ``--print`` shows the rows instead and publishes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.result import write_result
from bootleg_bundle.errors import DataError
from bootleg_training.checkpoint import CONFIG_NAME, ENCODER_NAME, STUDENT_NAME, read_config, weights_sha256
from bootleg_training.data.pack import Pack, open_pack
from bootleg_training.device import choose_device
from bootleg_training.method import method_of
from bootleg_training.probes.cache import open_cache
from bootleg_training.probes.classify import NEEDS, POOLED, Labelled, score, score_pooled
from bootleg_training.probes.encoders import TWIN, load_which, untrained_twin
from bootleg_training.probes.features import network_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bootleg_training.checkpoint import CheckpointConfig
    from bootleg_training.probes.classify import Kind
    from bootleg_training.vit import Encoder

PROBES = "probes.json"
PRECISION = "bf16"
FILES = {"teacher": ENCODER_NAME, "student": STUDENT_NAME}
CHUNK = 4096
PIXEL_SIDE = 8
"""Raw pixels are averaged to this side at most: 192 inputs, as many as a small encoder's features, where 32 px have
3,072. On 10,000 images of CIFAR-10 that loses nothing: k-NN 40.4 % at 8 px, 39.9 at 16, 39.2 at 32; linear 39.6 % at 8
px, 39.1 at 16."""


def main() -> None:
    """Probe and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["knn", "linear", "attentive"])
    parser.add_argument("--which", type=lambda text: text.split(","), default=["teacher"])
    parser.add_argument("--only", action="append", help="name of a run, instead of all that are finished")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--print", action="store_true")
    asked = parser.parse_args()
    for option, known in (("kinds", NEEDS), ("which", FILES)):
        for word in getattr(asked, option):
            if word not in known:
                parser.error(f"--{option} {word}: use some of {', '.join(known)}")
    bench = Bench(open_pack(asked.train), open_pack(asked.test), choose_device(asked.device))
    rows = study(asked.runs, bench, asked.kinds, asked.which, only=asked.only)
    print(json.dumps(rows, indent=2) if asked.print else write_result("study", rows))


@dataclass(frozen=True)
class Bench:
    """What every encoder is probed on, and where."""

    train: Pack
    test: Pack
    device: torch.device


def study(
    runs: Path, bench: Bench, kinds: Sequence[Kind], which: Sequence[str], *, only: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of every finished run, of the untrained encoders they began as, and of raw pixels.

    Raises:
        DataError: no run is finished, or a pack was not made as the encoders' input is.
    """
    folders = [folder for folder in finished(runs) if only is None or folder.name in only]
    if not folders:
        raise DataError(f"{runs} holds no finished run: none of its folders has checkpoint/{CONFIG_NAME}")
    rows: list[dict[str, Any]] = []
    twins: dict[str, dict[str, Any]] = {}
    for folder in folders:
        path = folder / "checkpoint"
        config = read_config(path)
        for pack in (bench.train, bench.test):
            if pack.preprocess != config.preprocess:
                raise DataError(f"the pack {pack.name} was not made as the input of {path} is")
        about = describe(config, bench)
        for name in which:

            def load(path: Path = path, name: str = name) -> Encoder:
                return load_which(path, name)[0]  # type: ignore[arg-type]  # argparse's word

            done = probed(folder / PROBES, load, config.files[FILES[name]].sha256, bench, kinds, name)
            rows += [{**about, "which": name, "probe": kind, "accuracy": value} for kind, value in done.items()]
        twin = untrained_twin(config)
        began = weights_sha256(twin.state_dict())
        if began not in twins:
            about |= {"method": "random init", "target_layers": [], "steps": 0, "images": 0, "which": "untrained"}
            twins[began] = about
            done = probed(runs / PROBES, lambda twin=twin: twin, began, bench, kinds, TWIN)
            rows += [{**about, "probe": kind, "accuracy": value} for kind, value in done.items()]
    return rows + pixel_rows(runs / PROBES, bench, [kind for kind in POOLED if kind in kinds])


def finished(runs: Path) -> list[Path]:
    """Run folders with a checkpoint, by name."""
    return sorted(file.parents[1] for file in runs.glob(f"*/checkpoint/{CONFIG_NAME}"))


def describe(config: CheckpointConfig, bench: Bench) -> dict[str, Any]:
    """What a run was, as the table groups it."""
    return {
        "method": method_of(config.run),
        "target_layers": list(config.target_layers),
        "encoder": f"{config.encoder.label} at {config.encoder.image_size} px",
        "data": bench.train.name,
        "steps": config.provenance.steps,
        "images": config.provenance.images_seen,
        "seed": config.run.seed,
    }


def probed(
    file: Path, load: Callable[[], Encoder], weights: str, bench: Bench, kinds: Sequence[Kind], name: str
) -> dict[str, float]:
    """Accuracy by probe; what ``file`` does not hold is computed, from one pass over the images, and put there."""
    known = _read(file)
    keys = {kind: _key(kind, weights, bench) for kind in kinds}
    missing = [kind for kind in kinds if keys[kind] not in known]
    if missing:
        begun = time.perf_counter()
        encoder = load().to(bench.device)
        wanted = sorted({NEEDS[kind] for kind in missing})
        with open_cache(None, precision=PRECISION) as cache:
            sides = []
            for pack in (bench.train, bench.test):
                fields = (encoder, pack.images, pack.fingerprint, pack.preprocess, wanted)
                title = f"{file.parent.name} {name}: features"
                sides.append(Labelled(cache.features(*fields, title=title), torch.from_numpy(pack.labels)))
            for kind in missing:
                known[keys[kind]] = round(score(kind, *sides, bench.device).accuracy, 4)
                _write(file, known)
        minutes = (time.perf_counter() - begun) / 60
        found = ", ".join(f"{kind} {known[keys[kind]]:.4f}" for kind in missing)
        print(f"{file.parent.name} {name}: {found} in {minutes:.1f} min", file=sys.stderr)
    return {kind: known[key] for kind, key in keys.items()}


def pixel_rows(file: Path, bench: Bench, kinds: Sequence[Any]) -> list[dict[str, Any]]:
    """k-NN and linear accuracy of the pixels themselves: what any encoder has to beat."""
    known = _read(file)
    method = "raw pixels" + (f" averaged to {PIXEL_SIDE} px" if bench.train.side > PIXEL_SIDE else "")
    keys = {kind: _key(kind, f"pixels-{PIXEL_SIDE}", bench) for kind in kinds}
    missing = [kind for kind in kinds if keys[kind] not in known]
    if missing:
        x, x_test = (pixels(pack).to(bench.device) for pack in (bench.train, bench.test))
        y, y_test = (torch.from_numpy(pack.labels) for pack in (bench.train, bench.test))
        for kind in missing:
            known[keys[kind]] = round(score_pooled(kind, x, y, x_test, y_test).accuracy, 4)
            _write(file, known)
            print(f"{method}: {kind} {known[keys[kind]]:.4f}", file=sys.stderr)
    about = {"method": method, "target_layers": [], "encoder": "", "data": bench.train.name, "steps": 0}
    about |= {"images": 0, "seed": 0, "which": ""}
    return [{**about, "probe": kind, "accuracy": known[keys[kind]]} for kind in kinds]


def pixels(pack: Pack) -> torch.Tensor:
    """Normalised pixels, one row an image; averaged to ``PIXEL_SIDE`` where there are more."""
    side, rows = min(pack.side, PIXEL_SIDE), []
    for begin in range(0, len(pack.images), CHUNK):
        x_BHWC = network_input(pack.preprocess, pack.images[begin : begin + CHUNK], torch.device("cpu"))
        rows.append(adaptive_avg_pool2d(x_BHWC.movedim(-1, 1), side).flatten(1))
    return torch.cat(rows)


def _key(kind: str, weights: str, bench: Bench) -> str:
    return " ".join([kind, weights[:16], bench.train.fingerprint[:16], bench.test.fingerprint[:16]])


def _read(file: Path) -> dict[str, float]:
    known: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return known


def _write(file: Path, known: dict[str, float]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(file)


if __name__ == "__main__":
    main()
