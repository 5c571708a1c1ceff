"""One progress bar and one log format for every long job; quiet when nobody is watching."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

__all__ = ["LOG", "show_log", "track"]

T = TypeVar("T")

LOG = logging.getLogger("hepar")


def show_log(level: int = logging.INFO) -> None:
    """Send hepar's log to stderr, one plain line a message; the library alone stays silent."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(level)
    LOG.propagate = False


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, drawing a bar with rate and time left on a terminal, and nothing elsewhere.

    Args:
        items: what to go through.
        description: what is being done, in a few words ("features").
        total: how many there are, where `items` has no length.

    Example:
        >>> sum(track([1, 2, 3], "adding"))
        6
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")

    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=description)
