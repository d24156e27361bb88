"""`pgguard serve` as it is typed: ready, reload, drain, and an upstream that comes late."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from commands import environment, pgguard, start_pgguard

from pgguard.cli.serve import GRACE
from pgguard.launch.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

FREE = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")


@contextmanager
def serving(*arguments: str, cwd: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A guard on free ports; ended and waited for at the end."""
    process = start_pgguard("serve", *FREE, *arguments, cwd=cwd, env=environment(**more))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stderr is not None
    said: list[str] = []
    while len(said) < count:
        line = process.stderr.readline()
        assert line, said
        if line.startswith("pgguard: "):
            said.append(line.removeprefix("pgguard: ").rstrip())
    return said


def until(process: subprocess.Popen[str], text: str) -> None:
    """Read stderr up to a line that has the text."""
    assert process.stderr is not None
    assert any(text in line for line in iter(process.stderr.readline, ""))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=30)
    return process.returncode, said


def test_the_line_for_programs_says_where_everything_is(tmp_path: Path, database: Any) -> None:
    with serving("--upstream", database.url, "--ready-json", cwd=tmp_path) as process:
        told = ready(process)
        assert list(told) == [*("url", "host", "port", "http", "upstream", "server_version", "pid")]
        assert told["pid"] == process.pid
        assert database.password not in told["upstream"]
        with psycopg.connect(told["url"]) as connection:
            version = connection.info.server_version
            assert connection.info.port == told["port"]
        assert told["server_version"].startswith(str(version // 10000))
        with urllib.request.urlopen(f"{told['http']}/readyz", timeout=10) as answer:
            assert answer.status == 200
        process.terminate()
        code, said = ended(process)
    assert code == 0
    assert database.password not in said
    assert "Traceback" not in said


def test_four_lines_say_what_to_paste_what_is_behind_and_how_to_stop(
    tmp_path: Path, database: Any
) -> None:
    with serving("--upstream", database.url, cwd=tmp_path) as process:
        connect, upstream, http, stop = lines(process, 4)
        url = f"postgresql://{database.user}@127.0.0.1:"
        assert re.fullmatch(rf"connect to +{re.escape(url)}\d+/{database.name}", connect)
        assert re.fullmatch(
            rf"upstream +127\.0\.0\.1:{database.port} \(PostgreSQL [\d.]+\)", upstream
        )
        assert re.match(r"http +http://127\.0\.0\.1:\d+ ", http)
        assert "SIGTERM" in stop
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 0


def test_an_embedded_postgres_can_be_connected_to_by_the_line_to_paste(tmp_path: Path) -> None:
    with serving("--embedded", cwd=tmp_path) as process:
        url = lines(process, 1)[0].split()[-1]
        with psycopg.connect(url) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        process.terminate()
        assert ended(process)[0] == 0
    assert row is not None
    assert not tmp_path.joinpath(row[0]).exists()


def test_a_database_that_starts_later_is_served_then(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"postgresql://pgguard:unknown@127.0.0.1:{port}/postgres"
    with serving("--upstream", url, "--ready-json", cwd=tmp_path) as process:
        assert "not ready yet: " in lines(process, 2)[1]
        server = EmbeddedPostgres(settings={"port": str(port)})
        server.password = "unknown"
        with server:
            told = ready(process)
            with psycopg.connect(told["url"], connect_timeout=20) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            process.terminate()
            assert ended(process)[0] == 0


def test_a_running_statement_is_awaited_and_a_second_signal_ends_it(
    tmp_path: Path, database: Any
) -> None:
    with (
        serving("--upstream", database.url, "--ready-json", cwd=tmp_path) as process,
        closing(
            psycopg.connect(ready(process)["url"], autocommit=True, application_name="slow")
        ) as connection,
    ):
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
        lines(process, 4)
        process.terminate()
        assert "open transactions get up to 6 s" in lines(process, 1)[0]
        assert process.poll() is None
        asked = time.monotonic()
        process.terminate()
        code, said = ended(process)
    assert code == 0
    assert said.endswith("pgguard: stopped, 1 session cut off: slow\n")
    assert time.monotonic() - asked < GRACE


def test_a_stop_that_nobody_minded_says_so(tmp_path: Path, database: Any) -> None:
    with serving("--upstream", database.url, "--ready-json", cwd=tmp_path) as process:
        with psycopg.connect(ready(process)["url"]) as connection:
            connection.execute("SELECT 1")
        process.terminate()
        assert ended(process)[1].endswith("pgguard: stopped, nobody was cut off\n")


def test_a_second_signal_leaves_nothing_of_the_embedded_postgres(tmp_path: Path) -> None:
    with (
        serving("--embedded", "--ready-json", cwd=tmp_path) as process,
        closing(psycopg.connect(ready(process)["url"])) as connection,
    ):
        row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        lines(process, 4)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        code, said = ended(process)
    assert code == 0
    assert "1 session cut off" in said
    assert not Path(row[0]).parent.exists()


def test_hangup_reads_the_settings_again_and_refuses_wrong_ones(
    tmp_path: Path, database: Any
) -> None:
    file = tmp_path / "pgguard.toml"
    file.write_text("[limits]\nconnection_limit = 4\n")
    with serving("--upstream", database.url, "--ready-json", cwd=tmp_path) as process:
        told = ready(process)
        lines(process, 4)
        with psycopg.connect(told["url"], application_name="kept") as connection:
            assert cap(told["http"], "kept") == 4
            file.write_text("[limits]\nconnection_limit = 5\n")
            process.send_signal(signal.SIGHUP)
            until(process, "limits.connection_limit")
            assert cap(told["http"], "kept") == 5
            file.write_text("[limits]\nconnection_limits = 6\n")
            process.send_signal(signal.SIGHUP)
            (refusal,) = lines(process, 1)
            assert "the old ones stay" in refusal
            assert "pgguard.toml:2" in refusal
            assert cap(told["http"], "kept") == 5
            assert connection.execute("SELECT 1").fetchone() == (1,)
        process.terminate()
        assert ended(process)[0] == 0


def cap(http: str, client: str) -> int:
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    found = re.search(rf'client_connection_limit{{client="{client}"}} (\d+)', page)
    assert found, page
    return int(found[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no upstream: which database should be guarded?"),
        (("--embedded", "--upstream", "postgres://h"), "exclude each other"),
        (("--upstream", "postgres://h", "--listen", "nonsense"), "--listen"),
        (("--upstream", "postgres://u:pw@h/d?channel_binding=odd"), "channel_binding"),
    ],
)
def test_wrong_usage_is_2_with_a_reason_and_no_traceback(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = pgguard("serve", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path, database: Any) -> None:
    taken = f"127.0.0.1:{database.port}"
    done = pgguard("serve", "--upstream", database.url, "--listen", taken, cwd=tmp_path)
    assert done.returncode == 2
    assert taken in done.stderr
    assert "--listen HOST:PORT" in done.stderr
    if Path("/proc/net/tcp").exists():
        assert re.search(r"postgres \(pid \d+\) has that port \(choose", done.stderr)
