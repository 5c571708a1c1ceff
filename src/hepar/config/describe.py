"""All settings with default and meaning, as the dataclasses and their docstrings say them."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import Any

from hepar.config.stages import RunConfig

__all__ = ["describe_settings"]

ATTRIBUTE = re.compile(r"^    (\w+): ", re.MULTILINE)


def describe_settings() -> list[dict[str, object]]:
    """Describe each setting of a run as `STAGE.KEY`, in the order of the stages."""
    rows: list[dict[str, object]] = []
    config = RunConfig()
    for stage in fields(config):
        section: Any = getattr(config, stage.name)
        meanings = _attributes(type(section))
        rows += [
            {
                "setting": f"{stage.name}.{key.name}",
                "default": getattr(section, key.name),
                "meaning": meanings[key.name],
            }
            for key in fields(section)
        ]
    return rows


def _attributes(kind: type) -> dict[str, str]:
    """Read the Attributes block of a docstring: name -> meaning, on one line."""
    block = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    pieces = ATTRIBUTE.split(block.partition("\n\n")[0])
    return {
        name: " ".join(text.split()) for name, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }
