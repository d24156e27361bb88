"""The command line: a group whose commands are imported when they are called.

Laws: nothing here imports more than click, so that `--help` is quick; a command is a module with a
`command`; its callback returns the exit status (None = 0) and raises PgGuardError for what it
cannot do; pgguard's own words go to stderr, what was asked for goes to stdout.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pgguard.errors import LaunchError, PgGuardError, ServerUnavailable, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "run": "Run CMD, mostly tests, guarded: connections shared fairly, unscoped SQL named.",
    "serve": "Guard a database until SIGTERM or Ctrl-C.",
    "demo": "Run a test suite that exhausts its database: directly, then through pgguard.",
    "check": "Judge SQL without running it: files of statements, for CI and commit hooks.",
    "explain": "Print a rule's page; without CODE the list of codes.",
    "doctor": "Say what is wrong with this set-up; exit 1 when something cannot work.",
    "config": "Show, check and describe the settings.",
    "healthcheck": "Exit 0 when the guard and its upstream answer, else 1.",
}
"""Command → its short help; the command is `command` in the module of that name."""

LATER = frozenset(
    {
        *("report", "verify", "cleanup-order", "top", "init", "clean"),
        *("clone", "prove", "trace", "--inject", "--no-inject"),
    }
)
"""Commands and options that have their name already and nothing behind it."""

EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """Knows the names and short helps of its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"pgguard.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in LATER:
            raise SettingsError(f"`pgguard {args[0]}` is not in this version")
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from pgguard.cli.versions import version_lines

        click.echo("\n".join(version_lines()))
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="pgguard explain CODE, pgguard COMMAND --help",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the versions of pgguard, Python, event loop and parser.",
)
def group() -> None:
    """Run parallel tests on one Postgres: no "too many clients", unscoped SQL named.

    pgguard stands between a test suite and its database, gives every test file its share of the
    connections, lets the rest wait in line, and names the statements without a tenant.
    """


def run_cli(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with its status.

    At once: to take all modules apart first, as Python does, takes longer than a short command.
    """
    status = run_command(arguments)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            # Nobody may be reading any more.
            stream.flush()
    os._exit(status)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what it cannot do becomes one line on stderr and a status."""
    try:
        status: Any = group.main(arguments, prog_name="pgguard", standalone_mode=False)
    except click.NoSuchOption as error:
        if error.option_name in LATER:
            later = SettingsError(f"{error.option_name} is not in this version")
            return _complain(later, EXIT_USAGE)
        error.show()
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except ServerUnavailable as error:
        return _complain(error, EXIT_UNREACHABLE)
    except (SettingsError, LaunchError) as error:
        return _complain(error, EXIT_USAGE)
    except PgGuardError as error:
        return _complain(error, 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def _complain(error: PgGuardError, status: int) -> int:
    click.echo(f"pgguard: {' '.join(str(error).split())}", err=True)
    return status
