"""One analysis over several document sets, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from abbie_lens.errors import InputError
from probes.aggregation.result import CorpusAnalysis
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class DocumentSets(Result):
    """What the same analysis of the same model came to over each of several texts."""

    title: ClassVar[str] = "By document set"
    formula: ClassVar[str] = CorpusAnalysis.formula

    sets: dict[str, CorpusAnalysis]
    """By name, in the order given."""

    @classmethod
    def of(cls, sets: Mapping[str, CorpusAnalysis]) -> DocumentSets:
        """Side by side. Errors: InputError for none, or for sets of other models, analyses, depths, variants or classes."""
        if not sets:
            raise InputError("sets: expected at least one analysis.")
        first = next(iter(sets.values()))
        for name, one in list(sets.items())[1:]:
            for what in ("analysis", "n_iters", "variants", "classes"):
                if getattr(one, what) != getattr(first, what):
                    raise InputError(
                        f"sets[{name!r}]: {what} {getattr(one, what)}, the first has {getattr(first, what)}."
                    )
            if one.model.weight_hash != first.model.weight_hash:
                raise InputError(f"sets[{name!r}]: of another model, {one.model.name!r}.")
        return cls(model=first.model, tokens=(), n_iters=first.n_iters, sets=dict(sets))

    def to_frame(self) -> pd.DataFrame:
        """Every set's table, one below the other, with its name in `set`."""
        import pandas as pd

        frames = []
        for name, one in self.sets.items():
            frame = one.to_frame()
            frame.insert(0, "set", name)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def figure(self, *, theme: str = "light", **options: Any) -> go.Figure:
        """Small multiples by metric (`metrics=`), one line a set; `variant=` "trained", "random" or "shuffled"."""
        from probes.figures import aggregation as figures

        return figures.draw_sets(self, theme=theme, **options)
