"""Forward FLOPs of a run whose tokens halted, by formula from what it computed.

A stage costs its maps for every row, and attention's two products for every pair of a query that was laid side by side
(the most that any row of the batch has, in stretches) and a key that its stretch needs. Counted as in `abbie_lens.flops`.
"""

from __future__ import annotations

from dataclasses import dataclass

from abbie_lens.flops import count_flops
from abbie_lens.halting.packing import Computed
from abbie_lens.halting.run import HaltedRun
from abbie_lens.model import HookedLoopedTransformer


@dataclass(frozen=True)
class HaltedFlops:
    """Forward FLOPs of a whole run, by part."""

    begin: float
    iterations: tuple[float, ...]
    """[k] each iteration that ran."""
    looks: float
    """Read-outs for the policy, and its gate where it asks one: the rule's own cost; with kv="full" those at exits."""
    readout: float
    """The final read-out."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.begin + sum(self.iterations) + self.looks + self.readout


def halted_flops(model: HookedLoopedTransformer, run: HaltedRun) -> HaltedFlops:
    """FLOPs of `run`, which `model` made."""
    cfg, n_keys = model.cfg, run.n_keys
    counted = count_flops(model, run.n_iters, n_keys)
    pair = 4.0 * cfg.n_heads * cfg.head_width

    def cost(per_token: float, blocks: int, computed: Computed) -> float:
        attention = blocks * pair * n_keys
        return (per_token - attention) * computed.rows + blocks * pair * computed.pairs

    sites = [f"body.{b}.hook_resid_pre" for b in range(cfg.n_body_blocks)]
    ran = [sum(model.rows(site, k) for site in sites) for k in range(run.n_iters + 1)]
    read = lambda done: cost(counted.tail + counted.unembed, cfg.n_tail_blocks, done)  # noqa: E731
    return HaltedFlops(
        cost(counted.head, cfg.n_head_blocks + ran[0], run.real),
        tuple(
            cost(counted.iterations[k], ran[k + 1] - ran[k], computed)
            for k, computed in enumerate(run.iterations)
        ),
        sum(map(read, run.looks)) + sum(counted.gates[k] * rows for k, rows in run.asked),
        read(run.readout),
    )
