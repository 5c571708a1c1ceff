"""Series as samples: all slices of a series are one thing to see, and to answer for."""

from __future__ import annotations

from dataclasses import replace

from hepar.data.manifest import Manifest
from hepar.data.study import Sample
from hepar.errors import DataError

__all__ = ["stack_series", "unstack_series"]


def stack_series(manifest: Manifest) -> Manifest:
    """Return a manifest with a sample a series, which holds its slices from the feet up.

    Such a sample has the id and the file of its middle slice, and the most severe label.

    Raises:
        DataError: two slices of a series share a `slice_index`, so that their order is unknown.
    """
    series: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in unstack_series(manifest).samples:
        key = (sample.patient_id, sample.study_id, sample.series_id)
        series.setdefault(key, []).append(sample)
    stacked = []
    for own in series.values():
        places = [sample.slice_index for sample in own]
        if len(set(places)) < len(places):
            twice = next(place for place in places if places.count(place) > 1)
            raise DataError(
                f"patient {own[0].patient_id}: expected each slice_index of a series once, got "
                f"{twice} {places.count(twice)} times. Tell series by the column series_id."
            )
        own.sort(key=lambda sample: sample.slice_index)
        middle = own[len(own) // 2]
        stacked.append(replace(middle, label=manifest.patient_label(own), slices=tuple(own)))
    return replace(manifest, samples=tuple(stacked))


def unstack_series(manifest: Manifest) -> Manifest:
    """Return a manifest with a sample a slice again."""
    slices = [one for sample in manifest.samples for one in sample.slices or (sample,)]
    return replace(manifest, samples=tuple(slices))
