"""Decoder: a plain decoder read once and looped over as many windows as wanted, all on the same weights.

    decoder = read_decoder(folder, "smollm", Where(device), None)
    early, late = decoder.looped(Loop(4, 8)), decoder.looped(Loop(20, 24, "damped"))

Bridging changes a model in place and a window names its sites, so each window needs modules of its own. Modules weigh
nothing: a copy of them that holds the very same tensors is made in no time, and another window reads nothing from disk.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any

from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.model import LoopedBridge


@dataclass(frozen=True, eq=False)
class Decoder:
    """A causal language model of transformers as it was read: never bridged itself, only copies of it."""

    source: Any
    tokenizer: Any
    name: str

    def looped(self, loop: Loop) -> LoopedBridge:
        """The decoder with a window of its blocks in a loop; its weights are those of all others made here.

        Errors: ConfigError for a window that does not fit, InputError for a model that cannot be bridged or looped.
        """
        tensors = chain(self.source.parameters(), self.source.buffers())
        modules = copy.deepcopy(self.source, {id(tensor): tensor for tensor in tensors})
        return LoopedBridge(modules, loop, self.tokenizer, self.name)
