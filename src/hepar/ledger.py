"""Which stages of a job are done: a stage whose inputs and outputs still stand is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepar.progress import LOG
from hepar.provenance import SCHEMA_VERSION, digest, package_version, sha256_file, write_atomic

__all__ = ["Ledger"]


@dataclass
class Ledger:
    """Which stages of a run are done, from what, and what they wrote.

    Attributes:
        folder: of the run.
        command: for provenance.
        seconds: what each stage took when it was done.
    """

    folder: Path
    command: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def _path(self) -> Path:
        return self.folder / ".stages.json"

    def _entries(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def stage(
        self, name: str, inputs: Sequence[object], outputs: Sequence[str], work: Callable[[], None]
    ) -> None:
        """Do a stage unless the same inputs have already made outputs that still stand unaltered.

        Args:
            name: of the stage, in the words of the log.
            inputs: JSON-able values that decide the result.
            outputs: files it writes, relative to the run's folder.
            work: does it.
        """
        key = digest(package_version(), SCHEMA_VERSION, name, inputs)
        if self.stands(name, inputs, outputs):
            LOG.info("%-9s kept from before", name)
            self.seconds[name] = self._entries()[name]["seconds"]
            return
        started = time.perf_counter()
        work()
        self.seconds[name] = time.perf_counter() - started
        hashes = {output: sha256_file(self.folder / output) for output in outputs}
        entry = {"key": key, "outputs": hashes, "seconds": round(self.seconds[name], 3)}
        entries = {**self._entries(), name: entry}
        write_atomic(self._path, json.dumps(entries, indent=2) + "\n")
        LOG.info("%-9s %.1f s", name, self.seconds[name])

    def stands(self, name: str, inputs: Sequence[object], outputs: Sequence[str]) -> bool:
        """Return whether a stage need not be done again."""
        entry = self._entries().get(name, {})
        key = digest(package_version(), SCHEMA_VERSION, name, inputs)
        return entry.get("key") == key and self._unaltered(entry.get("outputs", {}), outputs)

    def _unaltered(self, hashes: Mapping[str, str], outputs: Sequence[str]) -> bool:
        if set(hashes) != set(outputs):
            return False
        paths = {output: self.folder / output for output in outputs}
        return all(p.is_file() and sha256_file(p) == hashes[o] for o, p in paths.items())
