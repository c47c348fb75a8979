"""What a pretraining run learnt: k-NN and linear accuracy of checkpoints beside their untrained twins.

    python -m benchmarks.pretrain RUN/checkpoint TRAIN_PACK TEST_PACK [CHECKPOINT TRAIN TEST ...]

Writes ``results/pretrain.json`` and records the probes in each checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.result import write_result
from bootleg_training.checkpoint import read_config
from bootleg_training.data.pack import open_pack
from bootleg_training.device import choose_device
from bootleg_training.probes.probe import probe_checkpoint, record_probes


def main() -> None:
    """Probe each checkpoint given on the command line."""
    arguments = [Path(argument) for argument in sys.argv[1:]]
    rows = []
    for checkpoint, train, test in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        probes = probe_checkpoint(checkpoint, open_pack(train), open_pack(test), choose_device("auto"))
        record_probes(checkpoint, probes)
        config = read_config(checkpoint)
        encoder, source = config.encoder, config.provenance
        rows += [
            {
                "data": probe.dataset,
                "encoder": f"{encoder.label} at {encoder.image_size} px",
                "target_layers": list(config.target_layers),
                "images_seen": source.images_seen,
                "training_minutes": round(source.training_seconds / 60, 1),
                "seed": config.run.seed,
                "probe": probe.probe,
                "accuracy": probe.value,
                "random_init": probe.random_init,
            }
            for probe in probes
        ]
    print(write_result("pretrain", rows))


if __name__ == "__main__":
    main()
