"""The error tree of the project: one root, a stable code for each leaf.

Every room raises these; the service maps codes to HTTP statuses in one table
(``bootleg_service.errors``), and the command line prints ``message`` and exits with 2.
Messages are written by us and name the field, the value and the limit; they never contain text
taken from a file, a path of the server, or another library's exception.

    BootlegError
    ├── ImageError (ValueError)          invalid_image          the bytes are no image we accept
    │   ├── EmptyImageError              empty_image
    │   ├── ImageFormatError             unsupported_image_format
    │   ├── ImageLimitError              image_too_large        bytes, side, pixels or frames over a limit
    │   └── CorruptImageError            corrupt_image          truncated or undecodable
    ├── BundleError                      invalid_bundle
    │   ├── ManifestError                invalid_manifest
    │   ├── FormatVersionError           unsupported_format_version
    │   ├── BundleFileError              bundle_file_mismatch   missing, link, outside, or wrong hash
    │   └── BundleTransferError          bundle_transfer_failed refused, cut off or not to be had, after retries
    ├── CheckpointError                  invalid_checkpoint
    ├── ConfigError (ValueError)         invalid_config
    ├── DataError                        invalid_data           a data set that cannot be used
    ├── DivergedError                    diverged               a training that no longer gives finite numbers
    ├── ParityError                      parity_failed          an export that does not equal its source
    ├── EngineFileError                  invalid_engine         a cached TensorRT engine that may not be run
    ├── EngineBuildError                 engine_build_failed    TensorRT cannot parse or build a graph
    └── ServiceError                     internal_error         see bootleg_service.errors
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


class BootlegError(Exception):
    """Root of every error this project raises on purpose."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ImageError(BootlegError, ValueError):
    """The bytes given are not an image the system accepts."""

    code = "invalid_image"


class EmptyImageError(ImageError):
    """Zero bytes were given."""

    code = "empty_image"


class ImageFormatError(ImageError):
    """The content is in none of the accepted formats."""

    code = "unsupported_image_format"


class ImageLimitError(ImageError):
    """The image exceeds a limit on bytes, side, pixels or frames."""

    code = "image_too_large"


class CorruptImageError(ImageError):
    """The content announces an accepted format but cannot be decoded completely."""

    code = "corrupt_image"


class BundleError(BootlegError):
    """A bundle that cannot be used."""

    code = "invalid_bundle"


class ManifestError(BundleError):
    """``manifest.json`` is absent, is no JSON, or does not fit the schema."""

    code = "invalid_manifest"


class FormatVersionError(BundleError):
    """The bundle was written for a newer reader than this one."""

    code = "unsupported_format_version"


class BundleFileError(BundleError):
    """A file of the bundle is missing, a link, outside the bundle, or has another hash."""

    code = "bundle_file_mismatch"


class BundleTransferError(BundleError):
    """A bundle that could not be fetched from its source or sent to its target."""

    code = "bundle_transfer_failed"


class CheckpointError(BootlegError):
    """A checkpoint or a resume state that cannot be used."""

    code = "invalid_checkpoint"


class ConfigError(BootlegError, ValueError):
    """A setting outside its bounds, or settings that contradict each other."""

    code = "invalid_config"


class DataError(BootlegError):
    """A data set that cannot be used: no images, too many corrupt ones, another fingerprint."""

    code = "invalid_data"


class DivergedError(BootlegError):
    """A training whose loss or gradient stayed non-finite; the last good state was kept."""

    code = "diverged"


class ParityError(BootlegError):
    """An exported graph whose outputs differ from its source by more than the gate allows."""

    code = "parity_failed"


class EngineFileError(BootlegError):
    """A cached TensorRT engine that is not what its record says, or lies where anybody may write."""

    code = "invalid_engine"


class EngineBuildError(BootlegError):
    """A graph that TensorRT cannot parse or build, or an engine that fails its golden check."""

    code = "engine_build_failed"


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first field that a model refused, dotted and empty for the whole of it, and why; without its value."""
    first = error.errors(include_url=False, include_context=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]
