"""Site: a TransformerLens HookPoint that knows which iteration of the loop it fires in."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformer_lens.hook_points import HookPoint, LensHandle

from abbie_lens.rows import Rows


@dataclass
class Clock:
    """The loop's own counter; sites read it, only the model sets it."""

    iteration: int | None = None
    """Iteration now running, None outside the loop."""
    n_iters: int | None = None
    """Planned depth of the run."""
    rows: Rows | None = None
    """Tokens that are computed at this moment, where streams are packed."""


class Site(HookPoint):
    """A hook point with `hook.iteration`, and hooks that only their own thread sees.

    Hooks are state of the module, so another thread's forward would run them too; a hook added through
    `HookedLoopedTransformer.hooks` carries its owner and is silent everywhere else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock: Clock | None = None
        self.looped = False
        """Whether this site fires once an iteration."""
        self.packs = True
        """Whether what passes is packed where streams are: one row for each token that is computed."""
        self.last: Tensor | None = None
        """[batch, pos, ...] what tokens that are not computed are seen with; NaN if None."""

    @classmethod
    def of(cls, point: HookPoint) -> Site:
        """`point` itself, made a site in place: components and aliases that hold it go on holding it."""
        if not isinstance(point, Site):
            point.__class__ = cls
            point.__dict__ |= {"clock": None, "looped": False, "packs": True, "last": None}
        assert isinstance(point, Site)
        return point

    def add_hook(self, hook: Any, dir: Any = "fwd", *given: Any, **named: Any) -> LensHandle:
        """TransformerLens' own; the hook sees all tokens where streams are packed, as those of `hooks` do."""
        if dir == "fwd" and not isinstance(hook, WholeHook):
            hook = WholeHook(hook)
        return super().add_hook(hook, dir, *given, **named)

    @property
    def iteration(self) -> int | None:
        """Iteration in which the site is firing; None outside the loop."""
        return self.clock.iteration if self.looped and self.clock is not None else None

    @property
    def computed(self) -> Tensor | None:
        """[batch, pos] tokens that are computed in this firing; a hook sees NaN at the others. None: all are."""
        return None if self.clock is None or self.clock.rows is None else self.clock.rows.computed

    @property
    def active(self) -> bool:
        """Whether a hook of this thread, or one without owner, is attached."""
        return bool(self.fwd_hooks or self.bwd_hooks) and any(
            _is_mine(handle) for handle in (*self.fwd_hooks, *self.bwd_hooks)
        )


class WholeHook:
    """A user's hook function that sees all tokens: where streams are packed, those that are not computed are NaN."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __repr__(self) -> str:
        return repr(self.fn)

    def __call__(self, tensor: Tensor, hook: HookPoint) -> Any:
        clock = hook.clock if isinstance(hook, Site) and hook.packs else None
        rows = None if clock is None else clock.rows
        if rows is None or tensor.shape[:2] != rows.lead:
            return self.fn(tensor, hook=hook)
        last = hook.last if isinstance(hook, Site) else None
        seen = rows.spread(tensor) if last is None else rows.put(tensor, last)
        result = self.fn(seen, hook=hook)
        return None if result is None else rows.take(result)


class OwnedHook(WholeHook):
    """The same, in the thread that added it and nowhere else."""

    def __init__(self, fn: Any) -> None:
        super().__init__(fn)
        self.owner = threading.get_ident()

    def __call__(self, tensor: Tensor, hook: HookPoint) -> Any:
        return super().__call__(tensor, hook) if self.owner == threading.get_ident() else None


def _is_mine(handle: LensHandle) -> bool:
    owner = getattr(handle.user_hook, "owner", None)
    return owner is None or owner == threading.get_ident()


def detach(point: HookPoint, handle: LensHandle) -> None:
    """Remove exactly this hook, leaving all others in place."""
    handle.hook.remove()
    for handles in (point.fwd_hooks, point.bwd_hooks):
        if handle in handles:
            handles.remove(handle)
