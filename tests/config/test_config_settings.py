"""The list of settings is whole, and what it shows can be given back."""

import dataclasses
import sys

import pytest

from hepar.cli.look import _as_set
from hepar.config import RunConfig, describe_settings, read_config
from hepar.errors import ConfigError
from hepar.settings import check


def test_every_setting_has_a_meaning() -> None:
    config = RunConfig()
    names = [
        f"{stage.name}.{key.name}"
        for stage in dataclasses.fields(config)
        for key in dataclasses.fields(getattr(config, stage.name))
    ]
    rows = describe_settings()
    assert [row["setting"] for row in rows] == names
    assert all(str(row["meaning"]).endswith(".") for row in rows)


@pytest.mark.parametrize("row", describe_settings(), ids=lambda row: row["setting"])
def test_a_shown_default_can_be_given_back(row: dict[str, object]) -> None:
    given = read_config(None, [f"{row['setting']}={_as_set(row['default'])}"])
    assert given == RunConfig()


def test_tiles_without_what_unmixes_their_stains_are_refused_before_any_file_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    network = ["backbone.name=efficientnet_lite0"]
    with pytest.raises(
        ConfigError, match=r"pip install 'hepar\[histology\]'`, or use --recipe rgb"
    ):
        check(read_config(None, network, "histopathology"))
    check(read_config(None, [*network, "recipe.name=rgb", "augment.stain=0"], "histopathology"))
