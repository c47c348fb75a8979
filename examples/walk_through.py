"""Image search from end to end: vectors of `bootleg embed`, an index, a query over HTTP, a page of neighbours.

    bootleg embed photos/ --out photos.npy
    python examples/walk_through.py photos/ --vectors photos.npy --query Q.jpg --page neighbours.html

docs/search/walk-through.md goes through it with 10,000 images.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from command_line import run, show
from PIL import Image, ImageOps

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

LINKS, BUILD, SEEN = 32, 200, 64
"""Of HNSW: links of a vector, candidates while building, candidates of a search. More find more and take longer."""

SIDE = 160
"""Pixels of a thumbnail."""


@dataclass(frozen=True)
class Collection:
    """Prepared vectors, and which image each is of."""

    space: CollectionSpace
    ids: list[str]
    vectors: np.ndarray


def main(asked: Namespace) -> None:
    """Read, index, ask, show."""
    collection = read(Path(asked.vectors))
    index = indexed(collection, Path(asked.vectors).with_suffix(".faiss"))
    with ImageEmbedder(asked.url, space=collection.space) as embedder:
        query = embedder.embed(asked.query)
    cosines, rows = index.search(query, asked.top)
    exact = np.argsort(-(collection.vectors @ query[0]))[: asked.top]
    hits = len(set(rows[0].tolist()) & set(exact.tolist()))
    found = [(collection.ids[row], float(cosine)) for row, cosine in zip(rows[0], cosines[0], strict=True)]
    show(found)
    note = (
        f"{len(collection.ids):,} images, space {collection.space.embedding_space}. "
        f"Of the {asked.top} nearest by exact search, the index found {hits}."
    )
    root = asked.photos if asked.photos.is_dir() else asked.photos.parent
    Path(asked.page).write_text(page(asked.query, [(root / name, cosine) for name, cosine in found], note), "utf-8")


def read(vectors: Path) -> Collection:
    """What `bootleg embed --out NAME.npy` wrote; images that failed are left out."""
    identity = json.loads(vectors.with_suffix(".json").read_text("utf-8"))["identity"]
    if identity["output"] != "embedding":
        sys.exit(f"{vectors}: holds {identity['output']}; embed with --output embedding")
    items = [json.loads(line) for line in vectors.with_suffix(".items.jsonl").read_text("utf-8").splitlines()]
    good = [item for item in items if item["status"] == "ok"]
    raw = np.load(vectors, mmap_mode="r")[[item["row"] for item in good]]
    space = CollectionSpace.centred_on(raw, identity["embedding_space"])
    return Collection(space, [item["id"] for item in good], space.prepare(raw))


def indexed(collection: Collection, file: Path) -> Any:
    """The index of a collection, from its file if that is of the same images and space."""
    beside = file.with_suffix(".faiss.json")
    record = {"space": collection.space.to_metadata(), "images": len(collection.ids), "hnsw": [LINKS, BUILD]}
    if beside.is_file() and json.loads(beside.read_text("utf-8")) == record:
        index = faiss.read_index(str(file))
    else:
        index = faiss.IndexHNSWFlat(collection.space.dimensions, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD
        index.add(collection.vectors)
        faiss.write_index(index, str(file))
        beside.write_text(json.dumps(record), "utf-8")
    index.hnsw.efSearch = SEEN
    return index


def page(query: Path, found: list[tuple[Path, float]], note: str) -> str:
    """One HTML file with every picture in it."""
    figures = "".join(_figure(path, f"{cosine:.3f}", path.name) for path, cosine in found)
    return PAGE.format(query=_figure(query, "query", query.name), figures=figures, note=escape(note))


def _figure(path: Path, above: str, below: str) -> str:
    image = ImageOps.fit(ImageOps.exif_transpose(Image.open(path)).convert("RGB"), (SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    picture = f'<img src="data:image/jpeg;base64,{data}" width="{SIDE}" height="{SIDE}" alt="{escape(below)}">'
    return f"<figure>{picture}<figcaption><b>{escape(above)}</b> {escape(below)}</figcaption></figure>"


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nearest images</title>
<style>
  :root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }}
  body {{ max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }}
  h1 {{ font-size: 1.3rem; margin: 1.5rem 0 .75rem; }}
  .grid {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
  figure {{ margin: 0; width: 160px; }}
  img {{ display: block; border-radius: 6px; }}
  figcaption {{ font-size: .8rem; overflow-wrap: anywhere; margin-top: .3rem; }}
  p {{ opacity: .75; }}
</style>
<h1>Query</h1>
<div class="grid">{query}</div>
<h1>Nearest images, by cosine</h1>
<div class="grid">{figures}</div>
<p>{note}</p>
</html>
"""

if __name__ == "__main__":
    run(main, __doc__, vectors="photos.npy", page="neighbours.html")
