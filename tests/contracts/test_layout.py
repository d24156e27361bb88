"""What every module of the package has: a purpose, a bounded size, and a test file of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pgguard"
MODULES = sorted(
    path.relative_to(PACKAGE)
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in {"demo", "inject"}
)
MAXIMAL_LINES = 500


def tree(module: Path) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text("utf-8"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_says_what_it_is_for(module: Path) -> None:
    body = tree(module).body
    assert not body or ast.get_docstring(tree(module))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_is_short(module: Path) -> None:
    assert len((PACKAGE / module).read_text("utf-8").splitlines()) <= MAXIMAL_LINES


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_that_does_something_has_a_test_file(module: Path) -> None:
    does = any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree(module))
    )
    if does:
        name = module.stem.strip("_")
        assert (ROOT / "tests" / module.parent / f"test_{name}.py").exists()


@pytest.mark.parametrize("module", sorted((PACKAGE / "demo").glob("*.py")), ids=lambda m: m.stem)
def test_what_the_demo_does_is_tested_here_or_by_its_own_suite(module: Path) -> None:
    if any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(module.read_text()))):
        name = f"test_{module.stem}.py"
        places = (ROOT / "tests" / "demo", PACKAGE / "demo" / "tests")
        assert any((place / name).exists() for place in places)


def test_the_package_itself_is_empty() -> None:
    assert not tree(Path("__init__.py")).body[1:]
