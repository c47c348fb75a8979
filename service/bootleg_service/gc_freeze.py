"""What stays to the end is kept from Python's garbage collector, which stops every request while it looks through it.

Its full collections go through every object that is alive: modules, schemas, routes and models, none of which is
garbage. Frozen once all is loaded, they cost nothing; what requests leave is still collected.
"""

from __future__ import annotations

import gc


def freeze() -> None:
    """Keep all that is alive now from the collector; what was kept and has died is freed first. One full collection."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def freeze_again() -> None:
    """The same after some of it has been replaced; nothing where nothing is frozen."""
    if gc.get_freeze_count():
        freeze()
