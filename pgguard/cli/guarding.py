"""What `run`, `serve` and `demo` share: where to listen, what to say, what to write at the end.

Laws: words for people go to stderr, each line begins with `pgguard:`; no line holds a password;
what is imported here is imported by every command that starts a guard, so it is not much.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from pgguard.settings.values import Address, is_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgguard.app import Guard
    from pgguard.report.summary import RunSummary
    from pgguard.settings import Loaded, Settings
    from pgguard.settings.upstream import UpstreamAddress

ANY_PORT = Address("127.0.0.1", 0)
_SHORT = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108
"""The path of a socket has room for 107 bytes, which a TMPDIR may fill alone."""


def say(text: str) -> None:
    """One line of ours on stderr."""
    click.echo(f"pgguard: {text}", err=True)


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """`settings` with other values for some dotted keys; these are taken as they are."""
    for key, value in values.items():
        section, _, name = key.partition(".")
        changed = getattr(settings, section).model_copy(update={name: value})
        settings = settings.model_copy(update={section: changed})
    return settings


def on_free_ports(loaded: Loaded) -> Settings:
    """Both ports free ones, unless somebody chose them."""
    keys = ("listen.address", "http.address")
    chosen = {key: ANY_PORT for key in keys if loaded.origins[key] == "default"}
    return with_values(loaded.settings, chosen)


@contextmanager
def own_socket(settings: Settings, upstream: UpstreamAddress) -> Iterator[Settings]:
    """Where CMD would reach the server over a unix socket, one for the guard, too, in a directory
    of its own: peer authentication goes by who is behind the socket."""
    if settings.listen.unix is not None or not is_directory(upstream.host):
        yield settings
        return
    with TemporaryDirectory(prefix="pgguard-", dir=_SHORT) as directory:
        # As in the directory of Postgres, others may connect.
        Path(directory).chmod(0o711)
        yield with_values(settings, {"listen.unix": directory})


def door(guard: Guard) -> Address:
    """Where CMD is led: over a unix socket where it would have gone over one."""
    return guard.unix if guard.unix and is_directory(guard.upstream.host) else guard.listen


def addresses(guard: Guard) -> str:
    """The wire and the HTTP address: the first line of `run` and `demo`."""
    places = dict.fromkeys(place for place in (guard.listen, guard.unix) if place)
    shown = " and ".join(map(str, places))
    return f"listening on {shown}, metrics and findings on {guard.http}/metrics"


def beside(guard: Guard) -> list[str]:
    """Other guards on the same Postgres, a line for each, and what is left for this one; or that
    the server has one backend for all."""
    single = guard.hub.upstream.single
    if single:
        return [f"{single} serves one connection at a time: sessions come one after the other"]
    total = guard.hub.upstream.total
    return [f"{line}, on the same Postgres: limits.total is {total}" for line in guard.neighbours]


def facts(guard: Guard, **more: Any) -> dict[str, Any]:
    """What a report says about the run itself."""
    from pgguard.cli.versions import package_version

    return {
        "pgguard": package_version("pgguard"),
        "upstream": guard.upstream.masked,
        "server_version": guard.upstream_version,
        **more,
    }


def print_summary(summary: RunSummary, report: str) -> None:
    """The summary on stderr."""
    from pgguard.report import text

    click.echo(
        text.render(summary, report=report, style=text.style_of(sys.stderr)), nl=False, err=True
    )


def write_reports(summary: RunSummary, run: Mapping[str, Any], directory: Path) -> str:
    """`findings.json` and `summary.txt` in the run's directory; the path to tell."""
    from pgguard.launch.runs import FINDINGS, SUMMARY, shown

    report = shown(directory / FINDINGS)
    write_report("json", summary, run, directory / FINDINGS, report)
    write_report("text", summary, run, directory / SUMMARY, report)
    return report


def write_report(
    form: str, summary: RunSummary, run: Mapping[str, Any], path: Path, report: str
) -> None:
    """One report as `json` or `text`. Raises LaunchError where it cannot be written."""
    from pgguard.launch.runs import write_file

    if form == "json":
        import json

        from pgguard.report import json_report

        text = json.dumps(json_report.build(summary, run), ensure_ascii=False, indent=2) + "\n"
    else:
        from pgguard.report import text as text_report

        text = text_report.render(summary, report=report)
    write_file(path, text)
