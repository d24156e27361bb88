"""The models: keys, descriptions, defaults, and how values are shown."""

from __future__ import annotations

import jsonschema
import pytest
from pydantic import ValidationError

from pgguard.findings import CLASSES, CODES
from pgguard.settings import Settings, schema


def test_every_key_has_a_description_of_one_line() -> None:
    for key in [*schema.fields(), *schema.sections()]:
        assert schema.describe(key).endswith("."), key
        assert "\n" not in schema.describe(key)


def test_settings_and_their_sections_cannot_be_changed() -> None:
    settings = Settings()
    for owner, name in ((settings, "preset"), (settings.limits, "total")):
        with pytest.raises(ValidationError):
            setattr(owner, name, None)


def test_the_presets_are_the_recommended_values() -> None:
    assert schema.PRESETS == {
        "local": (10, 20.0),
        "ci": (10, 20.0),
        "staging": (25, 25.0),
        "production": (50, 30.0),
    }


def test_the_default_limits_are_those_of_the_default_preset() -> None:
    settings = Settings()
    limits = (settings.limits.connection_limit, settings.limits.pool_timeout)
    assert limits == schema.PRESETS[settings.preset]


def test_a_class_of_findings_is_either_a_setting_or_not_in_this_version() -> None:
    # What sets up or cleans up is graded so by the policy, whatever its code.
    here = {"setup", *(entry.cls for entry in CODES.values())}
    for name in CLASSES:
        assert (name in schema.NOT_YET_VALUES["run.fail_on"]) == (name not in here), name


def test_no_key_is_both_here_and_not_yet() -> None:
    assert not schema.NOT_YET_KEYS & set(schema.fields())
    assert set(schema.NOT_YET_VALUES) <= set(schema.fields())


def test_every_value_is_shown_as_toml_and_secrets_are_masked() -> None:
    settings = Settings.model_validate(
        {
            "upstream": {"url": "postgresql://u:s3cret@h/d"},
            "auth": {"users": {"a b": "s3cret"}},
            "http": {"token": "s3cret"},
            "limits": {"overrides": [{"client": "x*", "pool_timeout": "500ms"}], "total": 7},
        }
    )
    shown = {key: schema.shown(key, schema.value_of(settings, key)) for key in schema.fields()}
    assert "s3cret" not in str(shown)
    assert "s3cret" not in repr(settings)
    assert shown["upstream.url"] == '"postgresql://u:***@h:5432/d"'
    assert shown["auth.users"] == '{"a b" = "***"}'
    assert shown["http.token"] == '"***"'
    assert shown["limits.overrides"] == '[{client = "x*", pool_timeout = "500ms"}]'
    assert shown["limits.total"] == "7"
    assert shown["limits.max_waiting"] == '"off"'
    assert shown["listen.address"] == '"127.0.0.1:6433"'
    assert shown["tenancy.max_statement"] == '"16MiB"'
    assert shown["log.file"] == ""


def test_the_json_schema_takes_good_files_and_refuses_bad_ones() -> None:
    document = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(document)
    validator = jsonschema.Draft202012Validator(document)
    good = {"limits": {"total": "auto", "pool_timeout": "5s"}, "listen": {"address": "x:1"}}
    assert list(validator.iter_errors(good)) == []
    for bad in ({"limits": {"total": "x"}}, {"limits": {"pool_timeout": 5}}, {"limit": {}}):
        assert list(validator.iter_errors(bad)), bad


def test_the_json_schema_holds_the_defaults_as_they_are_written() -> None:
    limits = schema.json_schema()["$defs"]["Limits"]["properties"]
    assert (limits["connection_limit"]["default"], limits["pool_timeout"]["default"]) == (10, "20s")
