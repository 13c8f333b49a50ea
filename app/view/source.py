"""Where a page's results come from: a model that runs here, or a bundle that was exported earlier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from abbie_lens.bridged import Loop
from abbie_lens.errors import InputError
from app.view import runs
from probes import Result
from probes.bundle import Bundle

NAMES = {
    "fixed_point": "fixed-point",
    "lens": "lens",
    "lens_blocks": "lens by block",
    "lens_tuned": "tuned lens",
    "trajectories": "trajectory",
    "halting": "halting",
    "orbits": "path",
    "similarity": "similarity",
    "attribution": "logit-attribution",
    "attention": "attention",
    "per_block": "block",
    "spectrum": "multiplier",
    "path_independence": "path-independence",
    "lyapunov": "Lyapunov",
    "fixed_points": "fixed-point search",
    "linear": "probe",
    "patching": "patching",
    "steering": "steering",
    "concept_space": "concept-space",
    "recovery": "recovery",
    "skipping": "iteration-skipping",
    "specialisation": "specialisation",
}


class Source(Protocol):
    """What a page needs: one result per analysis."""

    def result(self, kind: str, /, **options: Any) -> Result:
        """The result of analysis `kind`. Errors: AbbieLensError saying why there is none."""
        ...


@dataclass(frozen=True)
class LiveSource:
    """A model, a prompt and a depth chosen in the sidebar."""

    model: str
    text: str
    n_iters: int
    loop: Loop | None = None
    """Of a plain decoder; None: the model brings its own, or the usual one."""

    def result(self, kind: str, /, **options: Any) -> Result:
        """Computed now, or taken from the cache."""
        return runs.analysis(kind, self.model, self.text, self.n_iters, self.loop, **options)


@dataclass(frozen=True)
class BundleSource:
    """An opened bundle: its results as they were saved, whatever the options."""

    name: str
    bundle: Bundle

    def result(self, kind: str, /, **options: Any) -> Result:
        """The saved result. Errors: InputError if the bundle holds none."""
        found = self.bundle.results.get(kind)
        if found is None:
            held = ", ".join(sorted(self.bundle.results)) or "nothing"
            raise InputError(
                f"Bundle {self.name!r} holds no {NAMES.get(kind, kind)} result (it holds: {held}). "
                "Close the bundle to run the model instead."
            )
        for name, wanted in options.items():
            saved = getattr(found, name, wanted)
            if saved != wanted:
                raise InputError(
                    f"Bundle {self.name!r} was saved with {name}={saved!r}, not {wanted!r}. "
                    "Close the bundle to run the model instead."
                )
        return found
