"""The Hugging Face hub: pulled from over plain HTTP, at one commit; pushed to in one commit, by its own library.

Needs ``huggingface_hub``, of the extra ``hub``; imported when a hub address is used. The library finds no token by
itself here: it gets ours or none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bootleg_bundle.errors import BundleTransferError, ConfigError
from bootleg_bundle.manifest import MANIFEST_NAME
from bootleg_bundle.transfer.push import wanted
from bootleg_bundle.transfer.source import AbsentError, TransientError
from bootleg_bundle.transfer.web import TRANSIENT, WebPlace, WebSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_bundle.bundle import Bundle
    from bootleg_bundle.transfer.retry import Retry

PREFIX = "hf:"
DEFAULT_REVISION = "main"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ADDRESS = re.compile(rf"hf:({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,99}}))?")


class HubAddress(NamedTuple):
    """A model repository, and a branch, tag or commit of it."""

    repository: str
    revision: str

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        return f"{PREFIX}{self.repository}@{self.revision}"


def parse_address(text: str) -> HubAddress:
    """Read ``hf:OWNER/NAME[@REVISION]``.

    Raises:
        ConfigError: it is something else.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no address on the hub: it must be hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return HubAddress(match[1], match[2] or DEFAULT_REVISION)


def connect(settings: WebSettings) -> Any:
    """Return the library's client with our token or none.

    Raises:
        ModuleNotFoundError: the library is not installed.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415

    return HfApi(token=settings.token.get_secret_value() if settings.token else False)


def hub_source(address: HubAddress, settings: WebSettings, retry: Retry, api: Any) -> WebPlace:
    """Return the files of the commit that the revision names now.

    Raises:
        BundleTransferError: there is no such repository or revision, or it may not be read.
    """
    try:
        commit = retry.run(
            lambda: _asked(address, lambda: api.model_info(address.repository, revision=address.revision).sha)
        )
    except AbsentError:
        raise BundleTransferError(f"{address.label} is not on the hub, or not for everybody to read") from None
    return WebPlace(f"{api.endpoint}/{address.repository}/resolve/{commit}", settings)


def push_to_hub(
    bundle: Bundle, address: HubAddress, settings: WebSettings, retry: Retry, api: Any, *, replace: bool
) -> bool:
    """Commit a bundle; a repository that is not there is made, private.

    Returns:
        False when the revision has it already.

    Raises:
        BundleError: the revision has another, or the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd  # noqa: PLC0415

    _create(address, api, retry)
    place = WebPlace(f"{api.endpoint}/{address.repository}/resolve/{address.revision}", settings)
    if not wanted(bundle, place, retry, replace=replace):
        return False
    names = [*sorted(bundle.manifest.files), MANIFEST_NAME]
    # The operations remember what they have sent, and the library waits and tries again by itself.
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=bundle.path / name) for name in names]
    message = f"{bundle.manifest.name}, bundle {bundle.sha256[:16]}"
    try:
        _asked(
            address,
            lambda: api.create_commit(
                address.repository, operations, commit_message=message, revision=address.revision
            ),
        )
    except AbsentError:
        raise BundleTransferError(f"{address.label} is not on the hub, or the token may not write to it") from None
    except TransientError as error:
        raise BundleTransferError(error.message) from error
    return True


def _create(address: HubAddress, api: Any, retry: Retry) -> None:
    try:
        retry.run(lambda: _asked(address, lambda: api.create_repo(address.repository, private=True, exist_ok=True)))
    except AbsentError:
        raise BundleTransferError(f"{address.label} cannot be made: the hub knows no such owner") from None


def _asked(address: HubAddress, call: Callable[[], Any]) -> Any:
    """What the library answers; its errors, whose types change with its HTTP library, become ours."""
    try:
        return call()
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 404:
            raise AbsentError(address.label) from error
        if status in {401, 403}:
            raise BundleTransferError(
                f"the hub refuses {address.label} with status {status}: it is not there, or BOOTLEG_BUNDLE_TOKEN must "
                "hold a token that may"
            ) from error
        if status in TRANSIENT or (status is None and "Connect" in type(error).__name__):
            raise TransientError(f"the hub cannot be reached for {address.label} ({status or 'no answer'})") from error
        raise BundleTransferError(
            f"the hub refuses {address.label} ({'status ' + str(status) if status else type(error).__name__})"
        ) from error
