"""Plain pretrained decoders, looped without training: `LoopedBridge(hf_model, Loop(start, stop, rule))`."""

from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.model import LoopedBridge
from abbie_lens.bridged.rules import Anchored, Damped

__all__ = ["Anchored", "Damped", "Loop", "LoopedBridge"]
