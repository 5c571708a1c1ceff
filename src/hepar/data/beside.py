"""Which slices lie below and above each sample of a series."""

from __future__ import annotations

from hepar.data.manifest import Manifest

__all__ = ["find_beside"]


def find_beside(manifest: Manifest, mm: float) -> list[tuple[int, int]]:
    """Return positions of the slices below and above each sample, some mm away.

    Slices of one series whose spacing is known are taken from as far away as they lie, one slice at
    least; where a slice is missing there, one up to half that way nearer or farther stands in. With
    unknown spacing it is the next `slice_index`. A sample without such a slice, or in a series
    where two slices share an index, is its own neighbour.

    Args:
        manifest: n samples.
        mm: wanted distance, above 0.

    Returns:
        n pairs (below, above); the order of the samples decides nothing.
    """
    places: dict[tuple[object, ...], dict[int, list[int]]] = {}
    keys = []
    for i, s in enumerate(manifest.samples):
        key = (s.patient_id, s.study_id, s.series_id, s.kind, s.spacing_mm)
        keys.append(key)
        places.setdefault(key, {}).setdefault(s.slice_index, []).append(i)
    found = []
    for i, (key, sample) in enumerate(zip(keys, manifest.samples, strict=True)):
        own, spacing = places[key], sample.spacing_mm
        if any(len(rows) > 1 for rows in own.values()):
            found.append((i, i))
            continue
        step = max(1, round(mm / spacing[0])) if spacing and spacing[0] > 0 else 1
        ways = sorted(range(step - step // 2, step + step // 2 + 1), key=lambda n: abs(n - step))
        below, above = (
            next((own[at][0] for n in ways if (at := sample.slice_index + sign * n) in own), i)
            for sign in (-1, 1)
        )
        found.append((below, above))
    return found
