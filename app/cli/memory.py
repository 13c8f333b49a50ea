"""The memory plan of a load, on stderr, before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from abbie_lens.files.memory_plan import MemoryPlan


def show(plan: MemoryPlan) -> None:
    """Print what loading takes and what is free."""
    typer.echo(str(plan), err=True)
