"""The settings file, the line of every key, and the variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.errors import SettingsError
from pgguard.settings.sources import find_file, line_of, read_file, variables

if TYPE_CHECKING:
    from pathlib import Path

TEXT = '''\
preset = "ci"
# limits.total = 3
limits.total = 30

[limits.nested]
x = """
total = 4
"""

[tenancy]
"global" = [
    "a",  # ] =
]
owned = { A = "b", C = "d" }

[[limits.overrides]]
client = "a"
[[limits.overrides]]
client = "b"
clint = "c"
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("preset",), 1),
        (("limits", "total"), 3),
        (("limits", "nested", "x"), 6),
        (("tenancy",), 10),
        (("tenancy", "global"), 11),
        (("tenancy", "owned"), 14),
        (("limits", "overrides", 0, "client"), 17),
        (("limits", "overrides", 1, "client"), 19),
        (("limits", "overrides", 1, "clint"), 20),
        (("limits", "overrides", 1, "missing"), 18),
        (("nothing",), 1),
    ],
)
def test_the_line_of_a_key_is_found(key: tuple[str | int, ...], line: int) -> None:
    assert line_of(TEXT, key) == line


def test_the_line_of_a_key_in_an_inline_table_is_found() -> None:
    text = 'limits.overrides = [\n  { client = "a" },\n  { client = "b", clint = 1 },\n]\n'
    assert line_of(text, ("limits", "overrides", 1, "clint")) == 3


def test_the_nearest_file_wins_and_the_search_ends_at_the_repository_root(tmp_path: Path) -> None:
    (tmp_path / "pgguard.toml").write_text("preset = 'local'")
    root = tmp_path / "repository"
    inner = root / "a" / "b"
    inner.mkdir(parents=True)
    (root / ".git").mkdir()
    assert find_file(inner) is None
    (root / "pyproject.toml").write_text("[tool.pgguard]\npreset = 'ci'\n")
    found = find_file(inner)
    assert found is not None
    assert (found.path, found.table) == (root / "pyproject.toml", {"preset": "ci"})
    assert found.where(("preset",), root) == "pyproject.toml:2"
    (root / "a" / "pgguard.toml").write_text("preset = 'staging'")
    found = find_file(inner)
    assert found is not None
    assert found.path == root / "a" / "pgguard.toml"


def test_a_pyproject_without_our_table_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "pgguard.toml").write_text("")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    found = find_file(inner)
    assert found is not None
    assert found.path == tmp_path / "pgguard.toml"


def test_outside_of_a_repository_only_the_folder_itself_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "pgguard.toml").write_text("")
    inner = tmp_path / "inner"
    inner.mkdir()
    assert find_file(inner) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb = = 2\n", "pgguard.toml:2: not TOML"),
        (b"a = [1,\n", "pgguard.toml:2: not TOML"),
        (b"a = '\xff'", "pgguard.toml: the file is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pgguard.toml").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_file(tmp_path / "pgguard.toml", tmp_path)
    assert str(caught.value).startswith(message)


def test_a_file_that_is_missing_or_a_folder_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.toml", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_file(path, tmp_path)


def test_the_variables_are_ours_and_not_empty_and_the_long_form_wins() -> None:
    env = {
        "PGGUARD_UPSTREAM__URL": "long",
        "PGGUARD_UPSTREAM": "short",
        "PGGUARD_LIMITS__TOTAL": "30",
        "PGGUARD_PRESET": "",
        "PGGUARD_PG_BIN": "x",
        "PGGUARD_CONTROL": "x",
        "PGGUARD_LOOP": "x",
        "PGHOST": "x",
    }
    assert list(variables(env)) == [
        ("PGGUARD_UPSTREAM", "upstream.url", "short"),
        ("PGGUARD_LIMITS__TOTAL", "limits.total", "30"),
        ("PGGUARD_UPSTREAM__URL", "upstream.url", "long"),
    ]
