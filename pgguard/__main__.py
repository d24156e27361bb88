"""`python -m pgguard` and the console script."""

from __future__ import annotations


def main() -> None:
    from pgguard.cli import run_cli

    run_cli()


if __name__ == "__main__":
    main()
