"""Pages that are made from the code are as the code makes them now."""

from __future__ import annotations

import re
import tomllib

import click
import pytest

from pgguard.settings import Settings, schema
from tests.docs.generate import EXAMPLES, PAGES, ROOT, commands, metrics


@pytest.mark.parametrize("path", list(PAGES))
def test_a_page_is_what_the_code_makes_of_it(path: str) -> None:
    written = (ROOT / path).read_text("utf-8")
    assert written == PAGES[path](), "run `python -m tests.docs.generate`"


def test_the_annotated_file_has_every_key_with_its_default() -> None:
    text = (ROOT / "config/pgguard.toml").read_text("utf-8")
    read = tomllib.loads(re.sub(r"^# ([a-z_]+ = )", r"\1", text, flags=re.MULTILINE))
    flat = {"preset": read.pop("preset")}
    flat |= {f"{name}.{key}": value for name, table in read.items() for key, value in table.items()}
    assert list(flat) == list(schema.fields())
    nested = {name: dict(table) for name, table in read.items()}
    for key in EXAMPLES:
        section, _, name = key.rpartition(".")
        del nested[section][name]
    assert Settings.model_validate(nested) == Settings()


def test_every_command_and_metric_has_words() -> None:
    for path, command in commands():
        assert command.help, path
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert all(option.help for option in options), path
    names = [name for name, _, _, _ in metrics()]
    assert len(names) == len(set(names))
    assert all(text.endswith(".") for _, _, _, text in metrics())
