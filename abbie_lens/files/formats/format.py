"""What a published format is: how it is recognised, what its config says, and where its tensors go."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from typing import Any, ClassVar

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, Shapes
from abbie_lens.files.formats.fields import Fields


class Format(ABC):
    """One published format. Its files are read, its code never is."""

    name: ClassVar[str]
    ids: ClassVar[tuple[str, ...]] = ()
    """Hub repositories in this format."""
    inert: ClassVar[tuple[str, ...]] = ()
    """Fields of config.json that say nothing of a forward pass."""
    dead: ClassVar[str] = r"(?!)"
    """Pattern of stored tensors that no forward pass reads: accepted, dropped, and reported."""

    @abstractmethod
    def claims(self, plain: Mapping[str, Any]) -> bool:
        """Whether config.json names this format, perhaps with others."""

    @abstractmethod
    def objection(self, keys: Set[str]) -> str | None:
        """Why these keys are not this format's; None if they are."""

    @abstractmethod
    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours, from every field that matters and, where none says it, from the stored shapes.

        Errors: CheckpointError for a missing field or a value that our modules cannot represent.
        """

    @abstractmethod
    def entries(self, cfg: LoopedConfig, stored: Shapes) -> Entries:
        """Every key that a checkpoint of this config has."""

    def spelt(self, key: str) -> str:
        """A stored key as `entries` spells it."""
        return key

    def is_dead(self, key: str, stored: Shapes) -> bool:
        """Whether no forward pass reads this tensor of a checkpoint that holds `stored`."""
        return re.fullmatch(self.dead, key) is not None
