"""`abbie-lens diagnose`: run the analyses on one text and write them as a bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.loops import Rule, Start, Stop
from app.cli.options import Device, Dtype, Json


def command(
    text: Annotated[
        str | None, typer.Argument(help='The text; "-", or nothing and a pipe, reads stdin.')
    ] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Read the text from a file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Bundled name, folder or hub id.  [the main bundled model]")
    ] = None,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    n_iters: Annotated[int, typer.Option(min=1, help="r: how often the Body is applied.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder to write the bundle to.")] = Path(
        "abbie-lens-bundle"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder if it is a bundle.")
    ] = False,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="Halting rule, NAME or NAME=THRESHOLD (repeatable).  [all rules]"),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="The costly analyses too: derivatives, blocks, other starts."),
    ] = False,
    clean: Annotated[
        str | None,
        typer.Option(help="With --corrupt: patch this prompt's values into that one's run."),
    ] = None,
    corrupt: Annotated[
        str | None, typer.Option(help="A prompt of as many tokens, with another answer.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random-initialisation control.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    json_output: Json = False,
) -> None:
    """Run the analyses on a text; write tables, states and a report that says what the numbers mean."""
    prompt = _prompt(text, file)
    if out.exists() and not overwrite:
        # Said before the model runs, not after.
        from abbie_lens.errors import ExistsError

        raise ExistsError(f"--out {str(out)!r} exists; choose another folder or pass --overwrite")

    if (clean is None) != (corrupt is None):
        raise typer.BadParameter("give both, or neither", param_hint="'--clean' / '--corrupt'")

    from rich.console import Console

    from abbie_lens import zoo
    from app import exporting, looping, summary
    from app.cli import loops
    from probes import bundle

    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model or zoo.DEFAULT, start, stop, loop, device=device, dtype=dtype)
        policies = [_policy(spec) for spec in rule] if rule else None
        left_out: dict[str, str] = {}
        patched = {}
        if clean is not None and corrupt is not None:
            # First: what is wrong with two prompts is said before the rest runs.
            patched["patching"] = exporting.patched(
                loaded, clean, corrupt, n_iters, seed=seed,
                progress=lambda done, total: status.update(f"patching ({done} of {total})"),
            )  # fmt: skip
        results = exporting.results(
            loaded, prompt, n_iters, seed=seed, rules=policies, full=full,
            refused=left_out.__setitem__,
            progress=lambda done, total, step: status.update(f"{step} ({done + 1} of {total})"),
        )  # fmt: skip
        results |= patched
        states = exporting.states(loaded, prompt, n_iters)
        status.update("writing")
        settings: dict[str, Any] = {"text": prompt, "n_iters": n_iters, "seed": seed, "rules": rule}
        if patched:
            settings |= {"clean": clean, "corrupt": corrupt}
        if left_out:
            settings["left_out"] = left_out
        if start is not None:
            settings["loop"] = looping.settings(loaded.window)
        bundle.save(results, out, states=states, settings=settings, overwrite=overwrite)
    told = {"bundle": str(out), **summary.of(results)}
    if json_output:
        typer.echo(json.dumps(told))
    else:
        typer.echo(summary.text(told))


def _prompt(text: str | None, file: Path | None) -> str:
    """The text from exactly one of argument, file and stdin, without a final newline."""
    if text is not None and text != "-" and file is not None:
        raise typer.BadParameter("give a text or a file, not both", param_hint="TEXT / '--file'")
    if file is not None:
        return _decode(file.read_bytes(), "'--file'")
    if text is not None and text != "-":
        return text
    if text is None and sys.stdin.isatty():
        raise typer.BadParameter("give a text, --file, or pipe one in", param_hint="TEXT")
    return _decode(sys.stdin.buffer.read(), "stdin")


def _decode(raw: bytes, source: str) -> str:
    try:
        return raw.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"not UTF-8 at byte {error.start}", param_hint=source) from None


def _policy(spec: str) -> Any:
    """A halting rule from NAME or NAME=THRESHOLD."""
    from abbie_lens import halting

    name, _, threshold = spec.partition("=")
    if not threshold:
        return halting.policy(name)
    try:
        return halting.policy(name, threshold=float(threshold))
    except ValueError:
        raise typer.BadParameter(f"{threshold!r} is no number", param_hint="'--rule'") from None
