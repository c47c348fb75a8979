"""The contract between the rooms: bundles, image decoding, preprocessing, errors.

Needs numpy, Pillow and pydantic alone; imports none of the other rooms.
"""

from bootleg_bundle.bundle import Bundle, default_bundle_path, open_bundle
from bootleg_bundle.manifest import Manifest
from bootleg_bundle.preprocess import PreprocessSpec

__all__ = ["Bundle", "Manifest", "PreprocessSpec", "default_bundle_path", "open_bundle"]
