"""From a long statement that is judged wrongly to a short one that still is.

Laws: every candidate is a statement that the parser wrote from a smaller tree; the predicate is
asked a bounded number of times; a candidate that the predicate cannot judge counts as not wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast import ast, parse_sql
from pglast.parser import ParseError
from pglast.stream import RawStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ASKED: Final = 250
"""Candidates that are tried for one statement."""


def shrink(sql: str, wrong: Callable[[str], bool], most: int = _ASKED) -> str:
    """The shortest text found for which `wrong` holds, too; at most `most` are tried."""
    asked = 0
    found = True
    while found:
        found = False
        for candidate in sorted(set(_smaller(sql)), key=len):
            if len(candidate) >= len(sql) or asked >= most:
                continue
            asked += 1
            if wrong(candidate):
                sql, found = candidate, True
                break
    return sql


def _smaller(sql: str) -> Iterator[str]:
    try:
        count = len(_edits(parse_sql(sql)))
        for place in range(count):
            tree = parse_sql(sql)
            _edits(tree)[place]()
            text = _written(tree)
            if text:
                yield text
    except ParseError:
        return


def _written(tree: tuple[ast.RawStmt, ...]) -> str:
    """Its text; empty if the edit left a tree that means nothing."""
    try:
        text = str(RawStream()(tree))
        parse_sql(text)
    except Exception:
        return ""
    return text


def _edits(tree: tuple[ast.RawStmt, ...]) -> list[Callable[[], None]]:
    """Everything that can be taken out of the tree, in a fixed order."""
    edits: list[Callable[[], None]] = []
    stack: list[ast.Node] = list(tree)
    while stack:
        node = stack.pop()
        for name in node:
            value = getattr(node, name)
            if isinstance(value, ast.Node):
                stack.append(value)
                edits += [_setter(node, name, instead) for instead in _instead(value)]
                if not isinstance(node, ast.RawStmt | ast.JoinExpr):
                    edits.append(_setter(node, name, None))
            elif isinstance(value, tuple):
                stack += [item for item in value if isinstance(item, ast.Node)]
                edits += _thinner(node, name, value)
    return edits


def _thinner(node: ast.Node, name: str, items: tuple[object, ...]) -> list[Callable[[], None]]:
    edits = [
        _setter(node, name, items[:place] + items[place + 1 :] or None)
        for place in range(len(items))
        if not isinstance(items[place], ast.String)
    ]
    for place, item in enumerate(items):
        if isinstance(item, ast.Node):
            edits += [
                _setter(node, name, (*items[:place], instead, *items[place + 1 :]))
                for instead in _instead(item)
            ]
    return edits


def _instead(node: ast.Node) -> list[ast.Node]:
    """Parts of a node that can stand for it."""
    if isinstance(node, ast.BoolExpr):
        return list(node.args)
    if isinstance(node, ast.JoinExpr):
        return [node.larg, node.rarg]
    if isinstance(node, ast.SelectStmt) and node.larg is not None:
        return [node.larg, node.rarg]
    if isinstance(node, ast.BooleanTest):
        return [node.arg]
    return []


def _setter(node: ast.Node, name: str, value: object) -> Callable[[], None]:
    return lambda: setattr(node, name, value)
