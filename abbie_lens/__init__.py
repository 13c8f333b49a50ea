"""abbie-lens: a microscope for looped language models, with an iteration axis on every activation."""

from abbie_lens import errors, zoo
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.config import LoopedConfig
from abbie_lens.files.load import load
from abbie_lens.hooks.cache import IterationCache
from abbie_lens.hooks.capture import record
from abbie_lens.hooks.recorded import from_cache
from abbie_lens.info import ModelInfo
from abbie_lens.model import HookedLoopedTransformer

__all__ = [
    "HookedLoopedTransformer",
    "IterationCache",
    "Loop",
    "LoopedBridge",
    "LoopedConfig",
    "ModelInfo",
    "errors",
    "from_cache",
    "load",
    "record",
    "zoo",
]
