"""The command line ends in a line where memory ends."""

from __future__ import annotations

import pytest

from hepar.cli import face


def test_too_little_memory_is_one_line_and_not_a_traceback(monkeypatch, capsys):
    def full():
        raise MemoryError

    monkeypatch.setattr(face, "app", full)
    with pytest.raises(SystemExit) as end:
        face.main()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: memory: expected enough")
    assert said.count("\n") == 1
