"""The list of settings is whole, and what it shows can be given back."""

import dataclasses

import pytest

from hepar.cli.look import _as_set
from hepar.config import RunConfig, describe_settings, read_config


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
