"""What stays to the end is kept from Python's garbage collector, which stops every request while it looks through it.

Its full collections go through every object that is alive: modules, schemas, routes and models, none of which is
garbage. Set aside once all is loaded, they cost nothing; what requests leave is still collected.
"""

from __future__ import annotations

import gc


def set_aside() -> None:
    """Keep all that is alive now from the garbage collector; what was set aside and has died is freed first."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def set_aside_again() -> None:
    """The same after some of it has been replaced; nothing where nothing is set aside."""
    if gc.get_freeze_count():
        set_aside()
