"""Halting written the plain way: every token is computed to full depth, and masks choose what counts."""

from dataclasses import dataclass

import torch

from abbie_lens.halting import HaltingPolicy

BATCH, POS = 3, 12


def dealt(real, r, seed=0):
    """Exit steps [batch, pos], 1 ... r; -1 for padding. One row of the batch stops early."""
    exits = torch.randint(1, r + 1, real.shape, generator=torch.Generator().manual_seed(seed))
    exits[-1] = exits[-1].clamp_max(2)
    return exits.masked_fill(~real, -1)


@dataclass(frozen=True)
class Dealt(HaltingPolicy):
    """Stops each token after the number of iterations it was dealt, [token] in the order of the batch."""

    name = "dealt"
    title = formula = unit = ""
    stops = "at_least"
    depths: torch.Tensor | None = None
    threshold: float = 1

    def measure(self, current, previous):
        return (current.k >= self._depths(previous)).double()

    def remember(self, current, previous):
        return {"depths": self._depths(previous)}

    def _depths(self, previous):
        return self.depths if previous is None else previous.memory["depths"]


class Served:
    """The keys and values of every iteration, of which each token is given those that its rule names."""

    def __init__(self, model, exits, rule, n=1):
        self.model, self.exits, self.rule, self.n = model, exits, rule, n
        self.history = {}

    def __call__(self, slot, k, v, rows):
        assert rows is None
        stage, i, block = slot
        past = self.history.setdefault((stage, block), [])
        if stage != "body":
            return k, v
        past.append((k, v))
        assert len(past) == i + 1
        ran = lambda e: self.model.rows(f"body.{block}.hook_resid_pre", max(e, 0))  # noqa: E731
        which = torch.tensor([[self._which(i, ran(int(e))) for e in row] for row in self.exits])
        return tuple(
            torch.stack([pair[side] for pair in past])
            .gather(0, which[None, ..., None, None].expand(1, *k.shape))
            .squeeze(0)
            for side in (0, 1)
        )

    def _which(self, i, e):
        """Which of its rows a token serves in row i, that had e rows when it stopped."""
        if self.rule in ("recompute", "full"):
            return i
        if self.rule == "first":
            return 0
        if i < e:
            return i
        if self.rule in ("reuse", "last"):
            return max(e - 1, 0)
        same = [j for j in range(e) if j % self.n == i % self.n]
        return same[-1] if same else max(e - 1, 0)


def frozen(going_on, new, old):
    """A carry in which HRM's low stack, AdaPonder's mask and its old keys stay as they are for tokens that stopped."""
    carry = dict(new)
    for name in ("low", "active"):
        if name in new:
            carry[name] = new[name].where(
                going_on if name == "low" else going_on[..., 0], old[name]
            )
    if "served" in new:
        carry["served"] = {
            block: tuple(
                x.where(going_on[..., None], old["served"][block][side])
                for side, x in enumerate(pair)
            )
            for block, pair in new["served"].items()
        }
    return carry


@torch.no_grad()
def dense(model, tokens, n_iters, exits, rule="reuse", n=1, mask=None):
    """Logits [batch, pos, d_vocab] when tokens exit after `exits` iterations; -1 for padding."""
    state = model.begin(tokens, n_iters, attention_mask=mask)
    served = Served(model, exits, rule, n)
    state = model.enter(tokens, mask, n_iters, state.context.replace(store=served))
    z, logits = state.z, torch.full((*tokens.shape, model.cfg.d_vocab), float("nan"))
    while True:
        if rule == "full":
            here = exits == state.k
            logits[here] = model.readout(state.replace(context=state.context.replace(store=None)))[
                here
            ]
        if state.k == n_iters:
            break
        going_on = (exits > state.k)[..., None]
        after = model.step(state)
        z = after.z.where(going_on, z)
        if rule == "recompute":
            carry = frozen(going_on, after.carry, state.carry)
            after = after.replace(h=after.h.where(going_on, state.h), z=z, carry=carry)
        state = after
    return logits if rule == "full" else model.decode(z, mask, tokens)
