"""One recorded run, and any number of others that part from it: folded into a batch, resumed where they part.

A move is `begin` (0) or the step that leads to State k (k). Which of them fires a row of a site is recorded, not computed:
families differ in it. A run that differs from row i of a site on starts at the State before that move, so that neither the
Head nor earlier iterations are computed again; and at the first token that differs, where the model lets it (`prefix`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes.inputs import Inputs
from probes.interventions import states
from probes.interventions.prefix import Prefixes
from probes.interventions.readouts import AnswerLogits
from probes.running import states as walk

MOST_ROWS = 64
"""Most runs that go through the model together."""
MOST_NUMBERS = 2**25
"""Most numbers of a tensor that they make (128 MiB in float32)."""


@dataclass(frozen=True)
class Join:
    """Rows that part from the recorded run at one move."""

    index: list[int]
    """[row] which sequence each is a run of."""
    put: Callable[[Any], Any]
    """What is changed: the value at `site` of these rows, or their whole State."""
    site: str | None = None
    """Address of the hook; None: the State after the move."""


class Reruns:
    """The run of `inputs` with what fired at `sites`, and runs that part from it."""

    def __init__(self, model: Any, inputs: Inputs, sites: Sequence[str] = ()) -> None:
        self.model, self.inputs = model, inputs
        self.values: dict[tuple[str, int], Tensor] = {}
        """[batch, ...] by (site, row)."""
        self.moves: dict[tuple[str, int], int] = {}
        self.states: list[Any] = []
        """After 0, 1, … r iterations."""

        def keep(site: str) -> tuple[str, Callable[..., None]]:
            def fn(tensor: Tensor, hook: Any) -> None:
                self.values[site, hook.iteration] = tensor.detach()
                self.moves[site, hook.iteration] = len(self.states)

            return site, fn

        with model.hooks(fwd_hooks=[keep(site) for site in sites]):
            for state in walk(model, inputs):
                self.states.append(state)
        self.prefixes = Prefixes(model, inputs.tokens, inputs.mask, inputs.n_iters)
        self.at = torch.from_numpy(last(inputs.valid)).to(inputs.tokens.device)
        """[batch] the last token, where runs are read out."""
        self.logits = AnswerLogits(model, self.states[-1], self.at)
        self._resumes: bool | None = None

    def rows(self, site: str) -> int:
        """Rows that the site has in this run."""
        return 1 + max((k for name, k in self.values if name == site), default=-1)

    def chunk(self) -> int:
        """Runs at once, so that what is computed of them stays below MOST_NUMBERS numbers a tensor."""
        cfg, pos = self.model.cfg, self.inputs.tokens.shape[1]
        widest = max(4 * cfg.d_model, 0 if self.logits.short else cfg.d_vocab)
        return max(1, min(MOST_ROWS, MOST_NUMBERS // (pos * widest)))

    @property
    def resumes(self) -> bool:
        """Whether runs may begin behind a prefix; measured once, at the middle of this one."""
        if self._resumes is None:
            middle = self.inputs.tokens.shape[1] // 2
            self._resumes = self.inputs.mask is None and middle > 0 and self._agrees(middle)
        return self._resumes

    @torch.no_grad()
    def resumed(self, k: int, index: Sequence[int], start: int = 0) -> Any:
        """The State of sequences `index` after k iterations, from position `start` on."""
        return states.rows(self.states[k], index, self.prefixes.begun(index, start), start)

    @torch.no_grad()
    def moved(
        self, move: int, index: Sequence[int], hooks: Sequence[tuple[str, Any]], start: int = 0
    ) -> Any:
        """The State of sequences `index` after `move`, made under `hooks`."""
        if move:
            before = self.resumed(move - 1, index, start)
            with self.model.hooks(fwd_hooks=list(hooks)):
                return self.model.step(before)
        with self.model.hooks(fwd_hooks=list(hooks)):
            return self.prefixes.begin(index, start)

    @torch.no_grad()
    def through(self, move: int, index: Sequence[int], hooks: Sequence[tuple[str, Any]]) -> Any:
        """The State of sequences `index` at the planned depth, under `hooks` from `move` on."""
        before = self.resumed(move - 1, index) if move else None
        with self.model.hooks(fwd_hooks=list(hooks)):
            return self.finished(self.prefixes.begin(index) if before is None else before)

    @torch.no_grad()
    def grown(self, joining: Mapping[int, Sequence[Join]], start: int = 0) -> Any:
        """The State at the planned depth of runs that join one batch at the moves where they part from this one.

        Rows are in the order in which they join.
        """
        state, index = None, []
        self.prefixes.begun([0], start)  # what comes before, before any hook is there
        for move in range(self.inputs.n_iters + 1):
            hooked = [j for j in joining.get(move, ()) if j.site is not None]
            hooks, new = [], []
            for join in hooked:
                low = len(index) + len(new)
                new += join.index
                hooks.append((join.site, _within(join.put, low, low + len(join.index))))
            if move and new:
                state = self._with(state, index, self.resumed(move - 1, new, start), new, start)
            index = index + new
            with self.model.hooks(fwd_hooks=hooks):
                if state is not None:
                    # Without the keys that this step wrote: no later one reads them.
                    state = self.model.step(state).replace(context=state.context)
                elif new:
                    state = self.prefixes.begin(new, start)
            for join in joining.get(move, ()):
                if join.site is None:
                    patched = join.put(self.resumed(move, join.index, start))
                    state = self._with(state, index, patched, join.index, start)
                    index = index + join.index
        return state

    def _with(self, state: Any, index: list[int], more: Any, new: list[int], start: int) -> Any:
        """`state` of rows `index` with the rows `new` of `more` after them."""
        if state is None:
            return more
        # A token that was patched stays so.
        tokens = torch.cat([state.tokens, more.tokens])
        both = states.merged(state, more, self.prefixes.begun([*index, *new], start))
        context = both.context
        if context.tokens is not None:
            context = context.replace(tokens=tokens)
        return both.replace(tokens=tokens, context=context)

    @torch.no_grad()
    def finished(self, state: Any) -> Any:
        """The State at the planned depth, from `state` on."""
        context = state.context
        while state.k < self.inputs.n_iters:
            # Without the keys that this step wrote: no later one reads them.
            state = self.model.step(state).replace(context=context)
        return state

    @torch.no_grad()
    def ends(self, state: Any, index: Tensor, start: int = 0) -> Tensor:
        """[row, d_vocab] logits of the last token, from `state` of the rows on."""
        return self.logits(self.finished(state), self.at[index] - start)

    def _agrees(self, start: int) -> bool:
        index = list(range(len(self.at)))
        expected = self.logits(self.states[-1], self.at)
        every = torch.arange(len(index), device=self.at.device)
        # After an iteration a State may carry what it has of the earlier tokens too.
        for k in range(min(2, len(self.states))):
            try:
                found = self.ends(self.resumed(k, index, start), every, start)
            except Exception:  # each model's own code raises what it likes
                return False
            off = (found - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
            if not bool(off <= 100 * torch.finfo(expected.dtype).eps):
                return False
        return True


def last(valid: np.ndarray) -> np.ndarray:
    """[batch] position of the last token of each row of `valid` [batch, pos]."""
    return valid.shape[1] - 1 - valid[:, ::-1].argmax(1)


def _within(put: Callable[[Any], Any], low: int, high: int) -> Callable[..., Tensor]:
    """A hook that changes rows `low` to `high` - 1 alone."""

    def fn(x: Tensor, hook: Any) -> Tensor:
        return torch.cat([x[:low], put(x[low:high]), x[high:]])

    return fn
