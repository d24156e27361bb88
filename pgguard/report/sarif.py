"""SARIF 2.1.0 (OASIS): one run, a rule for each code, a result for each place.

Laws: what `pgguard check` allows is a result with a suppression, not left out; a result keeps its
`partialFingerprints` while the file around it changes; columns count Unicode code points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pgguard.findings import CODES
from pgguard.report.checked import message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgguard.tenancy.checking import Checked

SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def build(
    found: Sequence[Checked], version: str | None, pages: Mapping[str, str]
) -> dict[str, Any]:
    """The log; `pages` are the texts of `pgguard explain` by code."""
    results = [checked for checked in found if checked.code]
    codes = sorted({checked.code for checked in results})
    driver = {
        "name": "pgguard",
        "version": version or "unknown",
        "rules": [_rule(code, pages.get(code, "")) for code in codes],
    }
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "results": [_result(checked, codes.index(checked.code)) for checked in results],
            }
        ],
    }


def _rule(code: str, page: str) -> dict[str, Any]:
    entry = CODES[code]
    rule: dict[str, Any] = {
        "id": code,
        "name": entry.title.title().replace(" ", ""),
        "shortDescription": {"text": f"{entry.title[0].upper()}{entry.title[1:]}."},
        "defaultConfiguration": {"level": entry.severity},
        "properties": {"tags": ["tenancy", entry.cls]},
    }
    if page:
        rule["help"] = {"text": page}
    return rule


def _result(checked: Checked, index: int) -> dict[str, Any]:
    line, column = checked.place
    region: dict[str, Any] = {"startLine": line, "startColumn": column}
    if checked.item.sql and checked.item.verbatim:
        region["snippet"] = {"text": _line(checked)}
    result: dict[str, Any] = {
        "ruleId": checked.code,
        "ruleIndex": index,
        "level": checked.severity,
        "message": {"text": message(checked)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(checked.item.source.path)},
                    "region": region,
                }
            }
        ],
        "partialFingerprints": {"statement/v1": checked.fingerprint or str(checked.item.id)},
        "properties": {"verdict": checked.verdict.name, "class": checked.cls},
    }
    if checked.allowed:
        result["suppressions"] = [{"kind": "inSource", "justification": checked.allowed}]
    return result


def _line(checked: Checked) -> str:
    begin = checked.item.sql.rfind("\n", 0, checked.position) + 1
    return checked.item.sql[begin:].partition("\n")[0]


def _uri(path: str) -> str:
    """A path as a URI reference; relative paths stay so."""
    return quote(path.replace("\\", "/"), safe="/~")
