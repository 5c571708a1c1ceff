"""Every command in the documents exists, with its options, and every link leads somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from hepar.cli import app
from hepar.config import describe_settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS = {str(row["setting"]) for row in describe_settings()}
COMMAND = re.compile(r"(?:^|[\s`(])hepar ([a-z][^\n`]*)", re.MULTILINE)


def names(page):
    return page.relative_to(ROOT).as_posix()


def commands(text):
    """Return command lines: in code blocks whole, in running text what stands between backticks."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    whole = [found for block in blocks for found in COMMAND.findall(block.replace("\\\n", " "))]
    inline = re.findall(r"`hepar ([a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line.partition("  #")[0].strip() for line in [*whole, *inline]]


def faults(line):
    """Return what of a command line does not exist."""
    words = shlex.split(line.replace("...", ""))
    command = typer.main.get_command(app)
    while words and words[0] != "--help" and hasattr(command, "commands"):
        names = words[0].split("|")
        if any(name not in command.commands for name in names):
            return [f"hepar {words[0]}"]
        command, words = command.commands[names[0]], words[1:]
    if words == ["--help"]:
        return []
    known = {option for parameter in command.params for option in parameter.opts}
    bad = [w for w in words if w.startswith("-") and w.partition("=")[0] not in known]
    given = [after for word, after in pairwise(words) if word == "--set"]
    bad += [g for g in given if "." in g and "KEY" not in g and g.partition("=")[0] not in SETTINGS]
    return bad


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name != "reference"], ids=names)
def test_every_command_on_a_page_exists(page):
    found = {line: faults(line) for line in commands(page.read_text(encoding="utf-8"))}
    assert {line: bad for line, bad in found.items() if bad} == {}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_link_on_a_page_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_the_reference_says_what_the_code_says():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    written = {path.name: path.read_text("utf-8") for path in reference.FOLDER.iterdir()}
    assert written == reference.pages(), "run `make reference`"


def test_the_check_sees_what_is_wrong():
    text = "```\nhepar run X --nope 1 --set split.folds=3 --set split.nope=3\n```\n`hepar sing`"
    assert [faults(line) for line in commands(text)] == [["--nope", "split.nope=3"], ["hepar sing"]]


def test_settings_in_running_text_exist():
    known = {name.partition(".")[0] for name in SETTINGS}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for stage, key in re.findall(r"`(?:--set )?([a-z]+)\.([a-z_]+)=", text):
            assert stage not in known or f"{stage}.{key}" in SETTINGS, (names(page), stage, key)
