"""Std: the same stack without a loop, `h_{k+1} = B(h_k)`, trained with one application.

At r = 1 it is a plain transformer of N_h + N_b + N_t blocks. At r > 1 the trained Body is repeated at
test time with AbbIE-C's carry, which is the control for "looping helps because it was trained".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from abbie_lens.loops.abbie_c import AbbieC


@dataclass(frozen=True)
class Std(AbbieC):
    """Plain transformer; repeats its Body when asked for more than one iteration."""

    family: ClassVar[str] = "std"

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Trained without a loop."""
        return {"n_iters": 1}
