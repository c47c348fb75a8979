"""What may be chosen about an export, composed by the command and handed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_export.calibration import Operator


@dataclass(frozen=True)
class ExportOptions:
    """Choices of an export.

    Attributes:
        precisions: beside fp32, as :func:`bootleg_export.precisions.parse_precisions` gives them.
        calibration: a pack or a source of images, which int8 needs; judges every precision where it is given.
        tasks: labelled data to learn from and to score on; None measures no task.
        scenes: labelled pictures to score the heads on; None scores none.
        ignore: their label that does not count.
        int8_attention: int8 takes in attention's products beside the linear layers.
        size: input side in pixels; None: the side the encoder was trained at.
        external_data: write each graph's weights to a file beside it.

    Raises:
        ConfigError: int8 without calibration, its option without int8, or tasks with nothing to compare.
    """

    precisions: tuple[str, ...] = ()
    calibration: str | None = None
    tasks: tuple[str, str] | None = None
    scenes: Path | None = None
    ignore: int | None = 255
    int8_attention: bool = False
    size: int | None = None
    external_data: bool = False

    def __post_init__(self) -> None:
        if "int8" in self.precisions and self.calibration is None:
            raise ConfigError(
                "precision 'int8' needs --calibration: a pack or a folder of images such as the service will get"
            )
        if self.int8_attention and "int8" not in self.precisions:
            raise ConfigError("--int8-attention widens int8: ask for --precision int8 as well")
        for option, given in (("--tasks", self.tasks), ("--scenes", self.scenes)):
            if given is not None and not set(self.precisions) - {"bf16"}:
                raise ConfigError(
                    f"{option} compares precisions with fp32 on a processor: ask for fp16 or int8 as well"
                )

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What int8 computes in 8 bits."""
        return ("linear", "attention") if self.int8_attention else ("linear",)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read ``"96,128"``: distinct sides in pixels, in the order given; none for an empty text.

    Raises:
        ConfigError: a size that is no whole number, or the same twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not name.isdecimal():
            raise ConfigError(f"size {name!r} is no whole number of pixels")
    sizes = tuple(int(name) for name in names)
    if len(set(sizes)) < len(sizes):
        raise ConfigError(f"size {text!r} names a side twice")
    return sizes


DEFAULTS = ExportOptions()
