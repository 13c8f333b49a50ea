"""The command line: `abbie-lens models | fetch | convert | inspect | split | diagnose | collect | dynamics | lens | probe | halting | train | eval | retrofit | reproduce | app`.
Nothing here imports torch before a command runs, so that `--help` answers at once.
Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from app.cli import (
    collect,
    convert,
    diagnose,
    dynamics,
    eval,
    fetch,
    halting,
    inspect,
    launch,
    lens,
    models,
    probe,
    reproduce,
    retrofit,
    split,
    train,
)

cli = typer.Typer(
    name="abbie-lens",
    help="A microscope for looped language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cli.command("models")(models.command)
cli.command("fetch")(fetch.command)
cli.command("convert")(convert.command)
cli.command("inspect")(inspect.command)
cli.command("split")(split.command)
cli.command("diagnose")(diagnose.command)
cli.command("collect")(collect.command)
cli.command("dynamics")(dynamics.command)
cli.add_typer(lens.lens, name="lens")
cli.command("probe")(probe.command)
cli.command("halting")(halting.command)
cli.command("train")(train.command)
cli.command("eval")(eval.command)
cli.command("retrofit")(retrofit.command)
cli.command("reproduce")(reproduce.command)
cli.command("app")(launch.command)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"abbie-lens {version('abbie-lens')}")
        raise typer.Exit()


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code; our own errors become one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Tokens hold any character; a terminal that lacks one must not end the command.
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(args=list(argv) if argv is not None else None, prog_name="abbie-lens")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        typer.echo(f"abbie-lens: {' '.join(str(error).split())}", err=True)
        sys.exit(code)
    sys.exit(0)


def _exit_code(error: Exception) -> int | None:
    """2 for what the user asked wrongly, 1 for what failed, None for a mistake of ours."""
    if isinstance(error, OSError):
        return 1
    errors = sys.modules.get("abbie_lens.errors")
    if errors is None or not isinstance(error, errors.AbbieLensError):
        return None
    return 2 if isinstance(error, errors.InputError | errors.ConfigError) else 1
