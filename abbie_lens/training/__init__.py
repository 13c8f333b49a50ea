"""Training looped models: data, a resumable trainer, held-out evaluation."""

from .config import TrainConfig
from .evaluate import Evaluation, block_sums, bootstrap_means, evaluate, windows
from .progress import TrainProgress
from .reevaluate import reevaluate
from .run import train
from .tokenizer import load_tokenizer, tokenizer_hash, train_tokenizer
from .tokens import TokenFile, write_tokens

__all__ = [
    "Evaluation",
    "TokenFile",
    "TrainConfig",
    "TrainProgress",
    "block_sums",
    "bootstrap_means",
    "evaluate",
    "load_tokenizer",
    "reevaluate",
    "tokenizer_hash",
    "train",
    "train_tokenizer",
    "windows",
    "write_tokens",
]
