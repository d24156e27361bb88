"""`pgguard run` as it is typed, with a real Postgres behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from commands import environment, pgguard, start_pgguard

from pgguard.launch.embedded import sweep
from pgguard.launch.processes import Process, alive

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.slow

SELECT = (
    "import os, psycopg; connection = psycopg.connect(os.environ['{}']);"
    "print(connection.execute('{}').fetchone()); connection.close()"
)


def asks(name: str = "DATABASE_URL", query: str = "SELECT 1") -> list[str]:
    """A command that asks the database of that variable one question."""
    return [sys.executable, "-c", SELECT.format(name, query)]


def report(cwd: Path) -> Any:
    return json.loads((cwd / ".pgguard" / "last" / "findings.json").read_text())


def stderr_of(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line of stderr that has the pattern."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"stderr ended without {pattern}")


def test_a_command_reaches_its_database_through_the_guard(tmp_path: Path, database: Any) -> None:
    env = environment(DATABASE_URL=database.url, PGAPPNAME="suite", SECRET_FREE="1")
    done = pgguard("run", "--", *asks(), cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, "(1,)\n")
    first, second = done.stderr.splitlines()[:2]
    assert re.fullmatch(
        r"pgguard: listening on 127\.0\.0\.1:\d+, .* http://127\.0\.0\.1:\d+/metrics", first
    )
    assert second.startswith("pgguard: rewrote DATABASE_URL, PGHOST, PGPORT (upstream 127.0.0.1:")
    assert "from DATABASE_URL)" in second
    assert database.password not in done.stderr
    assert re.search(r"^suite +1 +1/10 ", done.stderr, re.MULTILINE)
    assert len(done.stderr.splitlines()) <= 26
    path = done.stderr.splitlines()[-1].removeprefix("report: ")
    assert (tmp_path / path).samefile(tmp_path / ".pgguard" / "last" / "findings.json")
    assert report(tmp_path)["clients"][0]["client"] == "suite"


@pytest.mark.parametrize("code", [0, 3, 70])
def test_the_exit_code_is_the_commands(code: int, tmp_path: Path, database: Any) -> None:
    command = [sys.executable, "-c", f"raise SystemExit({code})"]
    done = pgguard("run", "--upstream", database.url, "--", *command, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout == ""


def test_a_command_ended_by_a_signal_gives_128_and_its_number(
    tmp_path: Path, database: Any
) -> None:
    done = pgguard(
        "run", "--upstream", database.url, "--", "sh", "-c", "kill -TERM $$", cwd=tmp_path
    )
    assert done.returncode == 128 + signal.SIGTERM


def test_options_of_the_command_are_the_commands_own(tmp_path: Path, database: Any) -> None:
    for separator in ([], ["--"]):
        done = pgguard(
            *("run", "--upstream", database.url, *separator),
            *("echo", "--upstream", "x", "-q", "--help"),
            cwd=tmp_path,
        )
        assert (done.returncode, done.stdout) == (0, "--upstream x -q --help\n")


def test_streams_are_the_commands_own(tmp_path: Path, database: Any) -> None:
    done = pgguard("run", "--upstream", database.url, "--", "cat", cwd=tmp_path, input="in and out")
    assert done.stdout == "in and out"


def test_the_upstream_of_a_dotenv_file_is_found_and_exported(tmp_path: Path, database: Any) -> None:
    (tmp_path / ".env").write_text(f'DATABASE_URL="{database.url}?schema=public"\n')
    (tmp_path / ".env.test").write_text(f"export DATABASE_URL_TEST='{database.url}'\n")
    done = pgguard("run", "--", *asks("DATABASE_URL_TEST"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "(1,)\n")
    assert "DATABASE_URL_TEST (.env.test), DATABASE_URL (.env), PGHOST" in done.stderr
    assert "from DATABASE_URL_TEST in .env.test)" in done.stderr
    assert "nothing came" not in done.stderr


def test_every_user_of_a_rewritten_url_may_log_in(tmp_path: Path, database: Any) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS second_user")
        connection.execute("CREATE ROLE second_user LOGIN PASSWORD 's@cond/secret'")
    second = f"postgresql://second_user:s%40cond%2Fsecret@localhost:{database.port}/{database.name}"
    env = environment(DATABASE_URL=database.url, SECOND_URL=second)
    done = pgguard("run", "--", *asks("SECOND_URL", "SELECT current_user"), cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, "('second_user',)\n")


def test_the_limit_in_a_url_is_the_clients_cap(tmp_path: Path, database: Any) -> None:
    limited = f"{database.url}?connection_limit=3&pool_timeout=7"
    env = environment(DATABASE_URL=limited, PLAIN=database.url, PGAPPNAME="suite")
    done = pgguard("run", "--", *asks("PLAIN"), cwd=tmp_path, env=env)
    assert re.search(r"^suite +1 +1/3 ", done.stderr, re.MULTILINE), done.stderr


def test_setup_runs_first_through_the_guard_and_off_stdout(tmp_path: Path, database: Any) -> None:
    create = 'psql "$DATABASE_URL" -qc "CREATE TABLE made (id int)" && echo made it'
    env = environment(DATABASE_URL=database.url, PGAPPNAME="suite")
    done = pgguard(
        *("run", "--setup", create, "--setup", "true", "--"),
        *asks(query="SELECT count(*) FROM made"),
        cwd=tmp_path,
        env=env,
    )
    assert (done.returncode, done.stdout) == (0, "(0,)\n"), done.stderr
    assert "made it\n" in done.stderr
    assert re.search(r"^suite +2 ", done.stderr, re.MULTILINE)


def test_a_setup_that_fails_is_the_end_with_its_code(tmp_path: Path, database: Any) -> None:
    env = environment(DATABASE_URL=database.url)
    done = pgguard("run", "--setup", "exit 9", "--", "echo", "ran", cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (9, "")
    *_, setup, last = done.stderr.splitlines()
    assert setup == "pgguard: setup: exit 9"
    assert last == "pgguard: setup ended with 9, CMD not started: exit 9"
    assert report(tmp_path)["summary"]["reason"] == "CMD was not started"


def test_a_policy_fails_a_run_that_succeeded(tmp_path: Path, database: Any) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("CREATE TABLE note (id int PRIMARY KEY, tenant_id int, body text)")
    query = asks(query="SELECT count(*) FROM note")
    env = environment(DATABASE_URL=database.url)
    for classes, code in (("unscoped,exhaustion", 70), ("by_id", 0)):
        done = pgguard("run", "--fail-on", classes, "--", *query, cwd=tmp_path, env=env)
        assert done.returncode == code, done.stderr
        assert ("failed by policy: unscoped (1)" in done.stderr) == (code == 70)
        unchanged = "exit status unchanged; --fail-on unscoped fails the run"
        assert done.stderr.endswith(f"pgguard: {unchanged}\n") == (code == 0)
    assert report(tmp_path)["findings"][0]["code"] == "PGG101"
    failing = [sys.executable, "-c", query[2] + "; raise SystemExit(5)"]
    env = environment(DATABASE_URL=database.url)
    done = pgguard("run", "--fail-on", "unscoped", "--", *failing, cwd=tmp_path, env=env)
    assert done.returncode == 5


def test_reports_go_where_they_are_asked_for(tmp_path: Path, database: Any) -> None:
    done = pgguard(
        *("run", "--report", "json=out/report.json", "--report", "text=out/report.txt"),
        *("--upstream", database.url, "--", "true"),
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report(tmp_path)
    assert "nothing came through pgguard" in (tmp_path / "out" / "report.txt").read_text()


def test_a_place_that_cannot_be_written_fails_no_run(tmp_path: Path, database: Any) -> None:
    (tmp_path / ".pgguard").write_text("in the way")
    done = pgguard("run", "--upstream", database.url, "--", "true", cwd=tmp_path)
    assert done.returncode == 0
    assert "pgguard: no report: " in done.stderr


@pytest.mark.parametrize(
    ("files", "env", "cause"),
    [
        ({}, {}, "CMD did not use DATABASE_URL"),
        (
            {".env": "DATABASE_URL=postgres://real/db\n"},
            {},
            ".env:1 sets DATABASE_URL and its",
        ),
        ({}, {"OTHER": "postgres://other/db"}, "CMD uses OTHER (names other:5432)"),
    ],
)
def test_when_nothing_came_the_likely_cause_is_said(
    files: dict[str, str], env: dict[str, str], cause: str, tmp_path: Path, database: Any
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    env = environment(DATABASE_URL=database.url, **env)
    done = pgguard("run", "--", "true", cwd=tmp_path, env=env)
    assert done.returncode == 0
    assert f"\nnothing came through pgguard: likely because {cause}" in done.stderr
    assert re.search(r"^do this first: .+\n(  .+\n)*report: ", done.stderr, re.MULTILINE)
    assert "..." not in done.stderr
    quiet = pgguard("run", "-q", "--", "true", cwd=tmp_path, env=env)
    assert quiet.stderr.startswith(f"nothing came through pgguard: likely because {cause}")
    assert "do this first: " in quiet.stderr


def test_without_any_url_the_host_may_be_in_the_commands_configuration(
    tmp_path: Path, database: Any
) -> None:
    done = pgguard("run", "--upstream", database.url, "--", "true", cwd=tmp_path)
    assert "through pgguard: likely because no variable names 127.0.0.1:" in done.stderr
    assert "into DATABASE_URL and read it" in done.stderr


def test_quiet_says_only_what_went_wrong(tmp_path: Path, database: Any) -> None:
    env = environment(DATABASE_URL=database.url)
    done = pgguard("run", "-q", "--", *asks(query="SELECT 1"), cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--", "true"), "no upstream: which database should be guarded?"),
        (("run", "--upstream", "mysql://h/db", "--", "true"), "--upstream"),
        (("run", "--upstream", "postgres://u:pw@h/d?sslmode=odd", "--", "true"), "sslmode"),
        (("run", "--upstream", "postgres://h", "--", "no-such-command"), "command not found"),
        (("run", "--upstream", "postgres://h", "--fail-on", "odd", "--", "true"), "--fail-on"),
        (("run", "--upstream", "postgres://h", "--report", "html=x", "--", "true"), "this version"),
        (("run", "--upstream", "postgres://h", "--report", "json", "--", "true"), "json=PATH"),
        (("run", "--embedded", "--upstream", "postgres://h", "--", "true"), "exclude"),
        (("run",), "Which command should run? For example: pgguard run -- pytest"),
        (("run", "--setup", "x"), "Which command should run?"),
    ],
)
def test_wrong_usage_is_2_with_a_reason_and_no_traceback(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = pgguard(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "pw@" not in done.stderr


def test_an_upstream_that_does_not_answer_is_3_and_the_command_does_not_run(
    tmp_path: Path,
) -> None:
    env = environment(PGGUARD_UPSTREAM__WAIT="300ms")
    done = pgguard(
        "run",
        "--upstream",
        "postgres://u:pw@127.0.0.1:1/db",
        "--",
        "echo",
        "ran",
        cwd=tmp_path,
        env=env,
    )
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()[1:]
    assert line == (
        "pgguard: 127.0.0.1:1 (from --upstream): Connection refused, tried for 300ms"
        " (upstream.wait); CMD not started (start Postgres, or correct host and port of --upstream)"
    )


def test_a_login_that_postgres_refuses_is_one_line_with_server_source_and_remedy(
    tmp_path: Path, database: Any
) -> None:
    url = database.url.replace(database.password, "wrong")
    done = pgguard("run", "--", "true", cwd=tmp_path, env=environment(DATABASE_URL=url))
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()[1:]
    assert line == (
        f"pgguard: 127.0.0.1:{database.port} (from DATABASE_URL): password authentication failed"
        f' for user "{database.user}"; CMD not started (correct user and password of DATABASE_URL)'
    )


def test_a_database_that_does_not_exist_is_said_at_once_in_postgres_words(
    tmp_path: Path, postgres: Any
) -> None:
    done = pgguard("run", "--upstream", postgres.url_of("absent"), "--", "true", cwd=tmp_path)
    assert done.returncode == 3
    assert 'database "absent" does not exist' in done.stderr


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path, database: Any) -> None:
    done = pgguard(
        *("run", "--upstream", database.url, "--listen", f"127.0.0.1:{database.port}"),
        *("--", "true"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert f"127.0.0.1:{database.port}" in done.stderr
    assert "port 0 takes a free one" in done.stderr
    if Path("/proc/net/tcp").exists():
        assert re.search(r"\(pid \d+\) has that port \(choose", done.stderr)


REFUSED = """
import os, psycopg
from concurrent.futures import ThreadPoolExecutor
def connect(_):
    return psycopg.connect(os.environ["DATABASE_URL"], application_name="hog")
def refused(_):
    try:
        connect(_)
    except psycopg.OperationalError:
        return True
held = connect(0)
with ThreadPoolExecutor(8) as pool:
    assert all(pool.map(refused, range(8)))
"""


def test_equal_refusals_are_merged_into_lines_of_text_beside_the_command(
    tmp_path: Path, database: Any
) -> None:
    env = environment(
        DATABASE_URL=database.url,
        PGGUARD_POOL__MODE="session",
        PGGUARD_LIMITS__CONNECTION_LIMIT="1",
        PGGUARD_LIMITS__POOL_TIMEOUT="10ms",
    )
    command = [sys.executable, "-c", REFUSED]
    done = pgguard("run", "--", *command, cwd=tmp_path, env=env)
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "refused: " in line]
    assert all(line.startswith("pgguard: session ") for line in lines)
    # On a busy machine they may come over more than one pause (`cli/logs.py`).
    more = [int(found[1]) for line in lines if (found := re.search(r"\(and (\d+) more\)$", line))]
    assert len(lines) + sum(more) == 8
    assert len(lines) < 8
    assert '{"' not in done.stderr


def test_a_url_with_limits_stays_as_it_is_and_what_libpq_says_is_told(
    tmp_path: Path, database: Any
) -> None:
    url = f"{database.url}?connection_limit=3&pool_timeout=soon"
    script = "import os; print(os.environ['DATABASE_URL'].partition('?')[2])"
    done = pgguard(
        *("run", "--", sys.executable, "-c", script),
        cwd=tmp_path,
        env=environment(DATABASE_URL=url),
    )
    assert done.stdout == "connection_limit=3&pool_timeout=soon\n"
    assert "pgguard: DATABASE_URL: pool_timeout=soon, which should be a nu" in done.stderr
    assert 'invalid URI query parameter: "connection_limit"' in done.stderr
    with pytest.raises(psycopg.ProgrammingError, match="invalid URI query parameter"):
        psycopg.connect(f"{database.url}?connection_limit=3")


def test_an_embedded_postgres_is_there_for_the_command_and_gone_after_it(tmp_path: Path) -> None:
    done = pgguard("run", "--embedded", "--", *asks(query="SHOW data_directory"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "from --embedded: PostgreSQL " in done.stderr
    directory = Path(done.stdout.strip("(',)\n")).parent
    assert directory.name.startswith("pgguard-pg-")
    assert not directory.exists()


HOLDS = """
import os, psycopg, signal
connection = psycopg.connect(os.environ["DATABASE_URL"])
print(os.getpid(), connection.execute("SHOW data_directory").fetchone()[0], flush=True)
signal.pause()
"""


def holding(process: subprocess.Popen[str]) -> tuple[int, Path, Process]:
    """Of a run of HOLDS: the command's pid, the data directory, and the postmaster."""
    assert process.stdout is not None
    pid, directory = process.stdout.readline().split()
    lock = Path(directory) / "postmaster.pid"
    return int(pid), Path(directory), Process.of(int(lock.read_text().split()[0]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_command_and_nothing_is_left(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = start_pgguard("run", "--embedded", "--", sys.executable, "-c", HOLDS, cwd=tmp_path)
    _, data, server = holding(process)
    assert alive(server)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode in {128 + number, 1}
    assert not alive(server)
    assert not data.parent.exists()
    assert "report: " in said


def test_what_a_killed_guard_left_behind_is_gone_after_the_next_start(
    tmp_path: Path, database: Any
) -> None:
    process = start_pgguard("run", "--embedded", "--", sys.executable, "-c", HOLDS, cwd=tmp_path)
    command, data, server = holding(process)
    process.kill()
    process.wait()
    assert alive(server)
    os.kill(command, signal.SIGKILL)
    process.communicate(timeout=30)
    done = pgguard("run", "--upstream", database.url, "--", "true", cwd=tmp_path)
    assert done.returncode == 0
    assert not alive(server)
    assert not data.parent.exists()
    assert data.parent not in sweep()


def test_a_signal_before_the_command_ends_the_start(tmp_path: Path) -> None:
    process = start_pgguard(
        "run", "--upstream", "postgres://u@127.0.0.1:1/db", "--", "echo", "ran", cwd=tmp_path
    )
    stderr_of(process, "listening on")
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (128 + signal.SIGINT, "")
    assert said == "pgguard: ended by SIGINT\n"


def test_metrics_are_at_the_address_of_the_first_line(tmp_path: Path, database: Any) -> None:
    env = environment(DATABASE_URL=database.url, PGAPPNAME="suite")
    process = start_pgguard(*("run", "--", sys.executable, "-c", HOLDS), cwd=tmp_path, env=env)
    address = stderr_of(process, r"http://127\.0\.0\.1:\d+/metrics")[0]
    assert process.stdout is not None
    process.stdout.readline()
    with urllib.request.urlopen(address, timeout=10) as answer:
        page = answer.read().decode()
    process.terminate()
    process.communicate(timeout=30)
    assert 'pgguard_client_server_connections{client="suite"} 1' in page
