"""Compose file, Dockerfile, scrape file, gate and workflow."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from typing import Any

import jsonschema
import pytest
import yaml

from pgguard.settings import Settings, load
from pgguard.settings.upstream import parse_url
from tests.docs.generate import ROOT


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, rest) of every line; continued lines are one."""
    text = (ROOT / "config/Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_compose_file_is_valid_by_the_compose_specification() -> None:
    fixtures = ROOT / "tests/fixtures"
    schema = json.loads((fixtures / "compose-spec.json").read_text("utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(compose())] == []
    broken = compose()
    broken["services"]["pgguard"]["healthchek"] = {}
    assert list(validator.iter_errors(broken))
    assert "Apache License" in (fixtures / "compose-spec.LICENSE").read_text("utf-8")


def test_every_service_waits_until_the_one_before_it_is_healthy() -> None:
    services = compose()["services"]
    for name, before in (("pgguard", "db"), ("tests", "pgguard")):
        assert services[name]["depends_on"][before]["condition"] == "service_healthy"
        assert services[before]["healthcheck"]["test"]
    assert services["pgguard"]["healthcheck"]["test"] == ["CMD", "pgguard", "healthcheck"]


def test_the_settings_of_the_compose_file_are_valid(tmp_path: Any) -> None:
    services = compose()["services"]
    env = {
        key: value.replace("${PGGUARD_TOKEN:-}", "")
        for key, value in services["pgguard"]["environment"].items()
    }
    settings = load(config=None, env=env, flags={}, cwd=tmp_path).settings
    assert settings.upstream.url is not None
    upstream = parse_url(settings.upstream.url, {})
    inside = parse_url(services["tests"]["environment"]["DATABASE_URL_TEST"], {})
    assert (upstream.host, inside.host) == ("db", "pgguard")
    assert (upstream.user, upstream.database) == (inside.user, inside.database)
    database = services["db"]["environment"]
    assert upstream.password == database["POSTGRES_PASSWORD"]
    assert upstream.database == database["POSTGRES_DB"]
    assert inside.port == Settings().listen.address.port


def test_the_ports_of_the_compose_file_are_those_of_the_image() -> None:
    exposed = next(rest for word, rest in dockerfile() if word == "EXPOSE").split()
    published = [port.split(":") for port in compose()["services"]["pgguard"]["ports"]]
    assert [port[-1] for port in published] == exposed
    assert {port[0] for port in published} == {"127.0.0.1"}


def test_the_image_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    lines = dockerfile()
    last = dict(lines)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["ENTRYPOINT"]) == ["pgguard"]
    assert json.loads(last["CMD"]) == ["serve"]
    assert json.loads(last["HEALTHCHECK"].partition("CMD ")[2]) == ["pgguard", "healthcheck"]
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert lines[0][0] == "ARG"
    assert all(rest.startswith("${BASE}") for word, rest in lines if word == "FROM")


def test_the_settings_of_the_image_are_valid_and_reach_beyond_the_container(tmp_path: Any) -> None:
    words = shlex.split(next(rest for word, rest in dockerfile() if word == "ENV"))
    env = dict(word.split("=", 1) for word in words)
    settings = load(config=None, env=env, flags={}, cwd=tmp_path).settings
    assert (settings.listen.address.host, settings.http.address.host) == ("0.0.0.0", "0.0.0.0")
    assert settings.listen.address.port == Settings().listen.address.port
    assert settings.http.address.port == Settings().http.address.port


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    for word, rest in dockerfile():
        if word == "COPY" and not rest.startswith("--from"):
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert name in kept, name


def test_prometheus_scrapes_the_default_address() -> None:
    document = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text("utf-8"))
    (job,) = document["scrape_configs"]
    assert job["static_configs"] == [{"targets": [str(Settings().http.address)]}]


def test_the_constraints_pin_everything_and_name_no_registry() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert all(re.match(r"[a-z0-9-]+==[0-9][^\s]*( ; .+)?$", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=; ]", entry)[0].lower().replace("_", "-") for entry in wanted}
    assert names - {"pgguard"} <= {line.partition("==")[0] for line in lines}


def test_the_workflow_runs_the_gate_and_the_gate_can_be_run() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    steps = workflow["jobs"]["gate"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("tool", ["ruff", "mypy", "lint-imports", "codespell"])
def test_the_gate_runs_every_tool(tool: str) -> None:
    assert f'"$bin/{tool}"' in (ROOT / ".ci/run").read_text("utf-8")


def test_the_hook_for_others_is_a_command_that_exists() -> None:
    hook = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))[0]
    assert hook["entry"] == "pgguard config check"
    assert re.search(hook["files"], "app/pgguard.toml")
