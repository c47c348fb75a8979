"""Options of ``bootleg serve`` that are one field of the settings each: what requests may cost, and who may ask.

An option takes its default and its help from the field, and its variable from its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import ValidationError

from bootleg_bundle.errors import first_fault
from bootleg_service.settings import AccessSettings, BatchSettings, DecodeSettings, MaskSettings, RequestLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    Command = Callable[..., None]

MODELS: Final[dict[str, type[BaseModel]]] = {
    "limits": RequestLimits,
    "batch": BatchSettings,
    "decode": DecodeSettings,
    "masks": MaskSettings,
    "access": AccessSettings,
}
FIELDS: Final[dict[str, tuple[str, str]]] = {
    "--receive-seconds": ("limits", "receive_seconds"),
    "--header-seconds": ("limits", "header_seconds"),
    "--max-body-bytes": ("limits", "max_body_bytes"),
    "--max-held-bytes": ("limits", "max_held_bytes"),
    "--max-connections": ("limits", "max_connections"),
    "--max-queue-items": ("batch", "max_queue_items"),
    "--max-queue-bytes": ("batch", "max_queue_bytes"),
    "--bulk-share": ("batch", "bulk_share"),
    "--decode-processes": ("decode", "processes"),
    "--decode-seconds": ("decode", "seconds"),
    "--decode-memory-bytes": ("decode", "memory_bytes"),
    "--max-decodes": ("decode", "max_waiting"),
    "--mask-threads": ("masks", "threads"),
    "--max-masks": ("masks", "max_waiting"),
    "--max-mask-pixels": ("masks", "max_pixels"),
    "--max-mask-vertices": ("masks", "max_vertices"),
    "--trusted-proxy": ("access", "trusted_proxies"),
    "--cors-origin": ("access", "cors_origins"),
    "--metrics/--no-metrics": ("access", "show_metrics"),
}
"""By option: which settings, and which of their fields."""


def setting(flag: str, *names: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option whose variable follows from its name, from its yes if it has a no: ``BOOTLEG_MAX_BATCH``."""
    variable = "BOOTLEG_" + _name(flag).upper()
    return click.option(flag, *names, envvar=variable, show_envvar=True, **attributes)


def limit_options(command: Command) -> Command:
    """Give a command the options of :data:`FIELDS`; it takes their values as keywords."""
    for flag, (concern, name) in reversed(FIELDS.items()):
        field = MODELS[concern].model_fields[name]
        attributes: dict[str, Any] = {"default": field.default, "help": _sentence(field.description or "")}
        if isinstance(field.default, tuple):
            attributes |= {"multiple": True, "help": f"{attributes['help']} May be given several times."}
        elif field.default is not None:
            attributes["type"] = type(field.default)
        command = setting(flag, **attributes)(command)
    return command


def chosen(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of :func:`limit_options` as fields of each of the settings.

    Raises:
        click.BadParameter: a value that its field refuses, with the option and why.
    """
    found: dict[str, dict[str, Any]] = {concern: {} for concern in MODELS}
    for flag, (concern, name) in FIELDS.items():
        found[concern][name] = values[_name(flag)]
    for concern, fields in found.items():
        try:
            MODELS[concern].model_validate(fields)
        except ValidationError as error:
            place, reason = first_fault(error)
            name = place.partition(".")[0]
            hint = next((flag for flag, field in FIELDS.items() if field == (concern, name)), None)
            value = fields.get(name, "")
            shown = ", ".join(value) if isinstance(value, tuple) else value
            reason = reason.removeprefix("Value error, ")
            raise click.BadParameter(f"{shown}: {reason}" if hint else reason, param_hint=hint) from None
    return found


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _name(flag: str) -> str:
    return flag.partition("/")[0].removeprefix("--").replace("-", "_")
