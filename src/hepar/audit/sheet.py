"""A picture of what was found: the two images of each link side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import Manifest
from hepar.ingest import read_slices
from hepar.provenance import write_atomic

__all__ = ["draw_sheet", "write_sheet"]

_SIDE = 160
_GAP = 8
_TEXT = 30


def draw_sheet(
    manifest: Manifest, links: Sequence[Mapping[str, Any]], columns: int = 3, most: int = 24
) -> NDArray[np.uint8]:
    """Return a contact sheet (y, x) of the most alike pairs, spread over kinds of link.

    Args:
        manifest: the cohort.
        links: records of an audit, the most alike first.
        columns: pairs beside each other.
        most: pairs at most.
    """
    import cv2

    chosen = _spread(links, most)
    by_id = {sample.sample_id: sample for sample in manifest.samples}
    wide, high = 2 * _SIDE + _GAP, _SIDE + _TEXT + _GAP
    rows = -(-len(chosen) // columns) if chosen else 1
    sheet = np.full((rows * high + _GAP, columns * (wide + 2 * _GAP)), 255, np.uint8)
    for at, link in enumerate(chosen):
        top, left = _GAP + at // columns * high, _GAP + at % columns * (wide + 2 * _GAP)
        pair = [by_id[link["a"]], by_id[link["b"]]]
        for side, image in enumerate(read_slices(manifest, pair)):
            place = left + side * (_SIDE + _GAP)
            sheet[top : top + _SIDE, place : place + _SIDE] = _thumbnail(image)
        told = f"{link['kind']} {link['similarity']:.3f} {link['mirrored']}"
        names = " | ".join(_short(sample.sample_id) for sample in pair)
        for line, text in enumerate((told, names)):
            where = (left, top + _SIDE + 12 + 12 * line)
            cv2.putText(sheet, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0,), 1, cv2.LINE_AA)
    return sheet


def write_sheet(path: Path, manifest: Manifest, links: Sequence[Mapping[str, Any]]) -> None:
    """Write the contact sheet as PNG."""
    import cv2

    _, encoded = cv2.imencode(".png", draw_sheet(manifest, links))
    write_atomic(path, encoded.tobytes())


def _spread(links: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Return links of each kind in turn, from the most to the least alike."""
    kinds = ("exact", "copy", "neighbour", "alike")
    each = [[link for link in links if link["kind"] == kind] for kind in kinds]
    each = [own for own in each if own]
    share = max(1, most // max(1, len(each)))
    chosen = []
    for own in each:
        at = np.unique(np.linspace(0, len(own) - 1, min(share, len(own))).astype(int))
        chosen += [own[i] for i in at]
    return chosen


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"...{name[-21:]}"


def _thumbnail(image: Any) -> NDArray[np.uint8]:
    import cv2

    from hepar.audit.looks import grey

    shown = cv2.resize(grey(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(255 * shown), np.uint8)
