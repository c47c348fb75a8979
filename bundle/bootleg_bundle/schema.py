"""The JSON schema of ``manifest.json``, for readers in other languages; published as ``docs/bundle.schema.json``.

It says of a manifest what a schema can. What binds fields to one another (every named file is listed, and so on) is
in ``docs/bundle-format.md``; :func:`bootleg_bundle.manifest.parse_manifest` checks all of it.
"""

from __future__ import annotations

from typing import Any, Final

from bootleg_bundle.manifest import GOLDEN_TOLERANCE, MANIFEST_NAME, Manifest

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"  # what pydantic writes


def manifest_schema() -> dict[str, Any]:
    """Return the schema, made of the model that parses manifests."""
    schema = Manifest.model_json_schema()
    schema["required"].insert(0, "format_version")  # a default for those who write, never left out
    graphs = schema["properties"]["graphs"]
    graphs["propertyNames"] = {"enum": list(GOLDEN_TOLERANCE)}
    graphs["required"] = ["fp32"]
    for name in ("files", "heads"):
        schema["properties"][name]["additionalProperties"] = False  # only names of the pattern
    return {"$schema": DIALECT, "title": MANIFEST_NAME, **schema}
