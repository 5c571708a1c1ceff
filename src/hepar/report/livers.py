"""Who outlined the liver: what a reader must know before believing any number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hepar.backbone import LIVER_UNET
from hepar.preprocess import read_recipe
from hepar.report.inputs import ReportInputs
from hepar.words import counted

__all__ = ["who_outlined"]


_UNSEEN = "a segmenter that never saw them"


def who_outlined(inputs: ReportInputs) -> list[str]:
    """Return sentences on whose livers were drawn, outlined or guessed, and how well.

    Args:
        inputs: of the run; `run.json` says what is known of its segmenter.
    """
    if all(sample.kind == "rgb" for sample in inputs.manifest.samples):
        return []
    paths = sorted(inputs.folder.glob("recipe*.json"))
    if not any(read_recipe(path).needs_mask for path in paths):
        return ["Liver: outlined by nobody. The network sees whole slices and no mask."]
    manifest = inputs.manifest
    n = len(manifest)
    drawn = 0 if manifest.lesions_alone else sum(bool(s.mask) for s in manifest.samples)
    where = f"all {counted(n, 'slice')}" if drawn == n else f"{drawn} of {counted(n, 'slice')}"
    if not inputs.run["config"]["segment"]["model"]:
        return [
            f"Liver: drawn by the source's authors in {where}, of patients left out, too.",
            "Of new patients it is guessed by a rule where nobody draws it, and no number here "
            "tells what that costs.",
        ]
    others = "" if drawn == n else ", outlined by a segmenter in the others"
    said = [f"Liver: drawn by the source's authors in {where}{others}."]
    known = inputs.run["config"]["segment"]["model"] == LIVER_UNET
    whose = "liver-unet, which may have seen them if they are LiTS's" if known else _UNSEEN
    said.append(
        f"The drawn ones teach; patients left out are seen through outlines of {whose}, as new "
        "patients are, and its mistakes count in every number."
    )
    sources = inputs.run.get("segmenter") or ()
    if sources:
        told = "; ".join(_dice(source) for source in sources)
        said.append(f"Its Dice on patients that it never saw: {told}.")
    else:
        said.append("How good its outlines are is not known here.")
    return said


def _dice(source: Mapping[str, Any]) -> str:
    """Say how well a source's left-out patients were outlined."""
    dice = source["dice"]
    whom = counted(source["n_patients"], "patient")
    if dice["low"] is None:
        return f"{dice['value']:.3f} ({whom}, too few for an interval)"
    return f"{dice['value']:.3f} ({dice['low']:.3f} to {dice['high']:.3f}, {whom})"
