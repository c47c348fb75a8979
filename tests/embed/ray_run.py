"""Ray for the tests, in processes of its own.

``python -m tests.embed.ray_run cluster`` starts one with two CPUs and lives until its standard input ends.
``python -m tests.embed.ray_run drive EMBEDDER ADDRESS SOURCE OUT BUNDLE`` is ``bootleg embed --engine ray`` with actors
of ``tests.embed.ray_workers``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bootleg_embed.parts.cli import compose, embed_over_cluster
from bootleg_embed.parts.cluster import Pool, library
from tests.embed import ray_workers


def cluster():
    """Two CPUs until the end of the input."""
    ray, _ = library()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, configure_logging=False)
    sys.stdout.write(ray.get_runtime_context().gcs_address + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()


def run(embedder, address, source, out, bundle):
    """The command from where its options are read."""
    job, images, prints = compose(source, Path(out), Path(bundle), ray_workers.ENGINE, ray_workers.WANTED)
    embed_over_cluster(job, Pool(address, 2), images, prints, 1.0, embedder=getattr(ray_workers, embedder))


if __name__ == "__main__":
    {"cluster": cluster, "drive": run}[sys.argv[1]](*sys.argv[2:])
