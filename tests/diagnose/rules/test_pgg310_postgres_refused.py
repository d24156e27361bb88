"""Postgres itself said no."""

from __future__ import annotations

import pytest

from pgguard.diagnose.rules.pgg310_postgres_refused import find
from pgguard.events import ServerRefused
from pgguard.record.findings import severity


def test_a_refusal_that_the_client_saw_is_an_error():
    [finding] = find([ServerRefused(9.0, "a", "53300", "too many clients already", True)])
    assert (finding.code, finding.client, severity(finding)) == ("PGG310", "a", "error")
    assert finding.evidence == ["53300: too many clients already (passed on to the client)"]


def test_a_refusal_that_was_tried_again_is_a_warning():
    [finding] = find([ServerRefused(9.0, "a", "57P03", "starting up", False)])
    assert severity(finding) == "warning"
    assert finding.evidence == ["57P03: starting up (tried again)"]


@pytest.mark.parametrize("sqlstate", ["28P01", "3D000", "", "42501"])
def test_errors_about_the_login_are_none(sqlstate):
    assert list(find([ServerRefused(9.0, "a", sqlstate, "no", True)])) == []
