"""Where an intervention acts: the whole State, or a site of the loop in every block of the Body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from abbie_lens.errors import InputError, nearest

STATE = "state"
"""All that one iteration hands to the next: h_k, z_k, and what the family carries beside them."""
PER_BLOCK = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
}
LOOP = {"hook_state": "loop.hook_state", "hook_readout": "loop.hook_readout"}
COMPONENTS = (STATE, *LOOP, *PER_BLOCK)


def chosen(model: Any, component: str, blocks: Sequence[int] | int | None = None) -> list[str]:
    """The sites that `component` means, one for each of `blocks` of the Body (None: all), or a site by its own name.

    Errors: InputError for an unknown component, site or block, or a site outside the loop.
    """
    if component in (STATE, *LOOP):
        if blocks is not None:
            raise InputError(f"blocks={blocks!r}: {component!r} is of no block; leave it out.")
        return [LOOP.get(component, STATE)]
    n_blocks = len(model.body)
    if component in PER_BLOCK:
        asked = (
            range(n_blocks) if blocks is None else [blocks] if isinstance(blocks, int) else blocks
        )
        wrong = [
            b
            for b in asked
            if isinstance(b, bool) or not (isinstance(b, int) and 0 <= b < n_blocks)
        ]
        if wrong or not len(asked):
            raise InputError(
                f"blocks={blocks!r}: expected blocks of the Body, 0 to {n_blocks - 1}."
            )
        names = [f"body.{b}.{PER_BLOCK[component]}" for b in asked]
    else:
        names = [component]
    for name in names:
        if name not in model.hook_dict:
            known = [*COMPONENTS, *model.hook_dict]
            raise InputError(f"site={name!r}: the model has no such site.{nearest(name, known)}")
        if not model.hook_dict[name].looped:
            raise InputError(f"site={name!r}: it is outside the loop and has no iterations.")
    return names
