"""`--start --stop --loop` of the commands that take a model: which blocks of a plain decoder are looped, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.memory import show

if TYPE_CHECKING:
    from abbie_lens.bridged import Loop

Start = Annotated[int | None, typer.Option(min=0, help="Plain decoder: first block of its loop.")]
Stop = Annotated[
    int | None, typer.Option(min=1, help="Plain decoder: block before which its loop stops.")
]
Rule = Annotated[
    str | None,
    typer.Option(
        "--loop", help="Rule of that loop: repeat, abbie-d, damped, anchored=BETA.  [repeat]"
    ),
]


def chosen(name: str, start: int | None, stop: int | None, rule: str | None) -> Loop | None:
    """The loop that the options ask for; None without a window.

    Errors: typer.BadParameter for half a window, a rule without one, a loop that does not fit, or a plain decoder that
    only a loop can open.
    """
    if (start is None) != (stop is None):
        given, missing = ("--start", "--stop") if stop is None else ("--stop", "--start")
        raise typer.BadParameter(
            f"{given} is only half of a window; give both", param_hint=f"'{missing}'"
        )
    if rule is not None and start is None:
        raise typer.BadParameter("give the window too: --start and --stop", param_hint="'--loop'")
    if start is None or stop is None:
        _refuse_bare(name)
        return None
    return _fitted(name, start, stop, rule)


def load(name: str, start: int | None, stop: int | None, rule: str | None, **settings: Any) -> Any:
    """The model called `name`, a plain decoder with the loop that the options ask for; its memory plan goes to stderr.

    Errors: as `chosen` and `abbie_lens.load`.
    """
    import abbie_lens

    loop = chosen(name, start, stop, rule)
    return abbie_lens.load(name, loop=loop, announce=show, **settings)


def _fitted(name: str, start: int, stop: int, rule: str | None) -> Loop:
    """The loop, seen to fit before any weight is read where the files are here."""
    from abbie_lens.bridged import Anchored
    from abbie_lens.errors import ConfigError
    from app import catalog, looping

    family, _, share = (rule or "repeat").partition("=")
    beta = None
    if share:
        try:
            beta = float(share)
        except ValueError:
            raise typer.BadParameter(f"{share!r} is no number", param_hint="'--loop'") from None
        if family != Anchored.family:
            raise typer.BadParameter(f"{family} takes no number", param_hint="'--loop'")
    try:
        loop = looping.make(start, stop, family, beta)
        entry = catalog.describe(name)
        if entry.n_blocks is not None:
            loop.fit(entry.n_blocks)
        elif entry.n_params is not None:
            raise typer.BadParameter(
                f"{name} brings its own loop ({entry.what}); leave --start, --stop, --loop out",
                param_hint="'--start' / '--stop'",
            )
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="'--start' / '--stop' / '--loop'") from None
    return loop


def _refuse_bare(name: str) -> None:
    """Errors: typer.BadParameter for a plain decoder that only a loop can open, with the usual window."""
    from abbie_lens.files.formats import candidates
    from abbie_lens.files.layout import CONFIG, read_json
    from app import catalog, looping

    n_blocks, at = catalog.describe(name).n_blocks, catalog.folder(name)
    if n_blocks is None or at is None or candidates(read_json(at / CONFIG)):
        return
    start, stop = looping.usual_window(n_blocks)
    raise typer.BadParameter(
        f"{name} is a plain decoder of {n_blocks} blocks: say which to loop, "
        f"e.g. --start {start} --stop {stop} --loop {looping.USUAL_RULE}",
        param_hint="'--start' / '--stop'",
    )
