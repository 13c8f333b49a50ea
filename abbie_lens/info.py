"""ModelInfo: which model a result came from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ModelInfo:
    """Identity of a model, attached to every result and every export."""

    name: str
    family: str
    """Loop family, with its settings where they change the mathematics, e.g. `abbie-d (between)`."""
    weight_hash: str
    n_params: int
    trained_n_iters: int
    dtype: str
    """Parameters' dtype, e.g. `float32`."""
    counts: str = "applications of the Body"
    """What one iteration is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)
