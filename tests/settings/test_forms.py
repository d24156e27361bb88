"""What all models of settings share."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pgguard.settings.forms import Section


class Example(Section):
    number: int = 1


@pytest.mark.parametrize("values", [{"nummer": 2}, {"number": "2"}])
def test_unknown_keys_and_guessed_types_are_errors(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(values)
