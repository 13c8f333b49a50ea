"""Options that several commands have, in one wording."""

from __future__ import annotations

from typing import Annotated

import typer

Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu.  [the best here]")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, …  [as stored]")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")]
Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on stdout.")]
