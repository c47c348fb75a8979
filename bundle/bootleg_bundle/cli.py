"""``bootleg bundle``: show a bundle, move it, and print the schema of its manifest."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from bootleg_bundle.bundle import Bundle
    from bootleg_bundle.transfer import Means

Folder = click.Path(path_type=Path, file_okay=False)
TOKEN = "BOOTLEG_BUNDLE_TOKEN"  # noqa: S105


@click.group()
def bundle() -> None:
    """Push, pull and show bundles; print the manifest's schema."""


@bundle.command()
@click.argument("folder", metavar="BUNDLE", type=Folder)
@click.argument("target")
@click.option("--replace", is_flag=True, help="Replace another bundle at TARGET.")
def push(folder: Path, target: str, *, replace: bool) -> None:
    """Send a verified bundle to TARGET.

    TARGET is a directory, file://PATH, http(s)://ADDRESS that takes PUT, or hf:OWNER/NAME[@BRANCH].
    BOOTLEG_BUNDLE_TOKEN holds a token where one is needed.
    """
    from bootleg_bundle import transfer

    fresh = transfer.push(folder, target, _means(), replace=replace)
    click.echo(f"{target}: {'pushed' if fresh else 'already there'}, {_line(folder)}")


@bundle.command()
@click.argument("source")
@click.argument("out", type=Folder)
@click.option("--sha256", metavar="HASH", help="Take only the bundle whose manifest.json has this SHA-256.")
@click.option("--replace", is_flag=True, help="Replace another bundle at OUT.")
def pull(source: str, out: Path, sha256: str | None, *, replace: bool) -> None:
    """Fetch the bundle at SOURCE to OUT, and check every byte of it.

    SOURCE is a directory, file://PATH, http(s)://ADDRESS or hf:OWNER/NAME[@REVISION]. A pull that was interrupted goes
    on where it stopped when the command is run again. BOOTLEG_BUNDLE_TOKEN holds a token where one is needed.
    """
    from bootleg_bundle import transfer

    if sha256 is not None and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise ConfigError("--sha256: must be 64 digits of 0-9 and a-f")
    fresh = transfer.pull(source, out, _means(), sha256=sha256, replace=replace)
    click.echo(f"{out}: {'pulled' if fresh else 'already there'}, {_line(out)}")


@bundle.command()
@click.argument("folder", metavar="[BUNDLE]", type=Folder, required=False)
def show(folder: Path | None) -> None:
    """Verify a bundle's files and say what it holds; the shipped one by default."""
    from bootleg_bundle.bundle import default_bundle_path, open_bundle
    from bootleg_bundle.summary import summary

    for key, value in summary(open_bundle(folder or default_bundle_path())):
        click.echo(f"{key:<16} {value}")


@bundle.command()
def schema() -> None:
    """Print the JSON schema of manifest.json."""
    from bootleg_bundle.schema import manifest_schema

    click.echo(json.dumps(manifest_schema(), indent=2))


def _line(folder: Path) -> str:
    from bootleg_bundle.bundle import open_bundle

    opened: Bundle = open_bundle(folder)
    size = sum(entry.bytes for entry in opened.manifest.files.values())
    return f"{opened.manifest.name}, {size / 1e6:.1f} MB, sha256 {opened.sha256}"


def _means() -> Means:
    from bootleg_bundle.transfer import Means
    from bootleg_bundle.transfer.retry import Retry
    from bootleg_bundle.transfer.web import WebSettings

    def say(line: str) -> None:
        click.echo(line, err=True)

    token = os.environ.get(TOKEN) or None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{TOKEN}: holds a character that no token has")
    settings: dict[str, Any] = {"token": token, "proxies": urllib.request.getproxies()}
    return Means(web=WebSettings(**settings), retry=Retry(say=say), say=say)
