"""A folder of pictures: the first folder below it is the label."""

from __future__ import annotations

from hepar.config import IngestConfig
from hepar.ingest.files import Entry, Listing, Source

__all__ = ["read_image_folder"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}


def read_image_folder(listing: Listing, config: IngestConfig) -> Source | None:  # noqa: ARG001
    """Return the pictures of `source/LABEL/...`, or None where there are none.

    Pictures that lie directly in the source have no label. A file that is a picture by its name
    alone goes along, to be refused under its label.
    """
    if not listing.of("picture"):
        return None
    entries = []
    for path, kind in listing.files:
        if kind != "picture" and (kind != "unknown" or path.suffix.lower() not in _SUFFIXES):
            continue
        parts = path.relative_to(listing.root).parts
        label = parts[0] if len(parts) > 1 and listing.labelled else ""
        entries.append(Entry(path, label=label))
    return Source(listing.root, tuple(entries))
