"""What a run reads: tokenizer, training tokens and held-out tokens, prepared once in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from abbie_lens.errors import ConfigError, InputError

from .config import TrainConfig
from .corpus import read_documents
from .tokenizer import load_tokenizer, tokenizer_hash, train_tokenizer
from .tokens import TokenFile, write_tokens

HELDOUT_SHARE = 0.01


@dataclass(frozen=True)
class TrainingData:
    """Everything a run reads."""

    tokenizer: PreTrainedTokenizerFast
    train: TokenFile
    heldout: TokenFile


def prepare(config: TrainConfig, folder: Path) -> TrainingData:
    """Open token files, or make them (and the tokenizer) from text in `folder`; reuses what is there."""
    tokenizer = _tokenizer(config, folder)
    train = _tokens(config.data, tokenizer, folder / "train.bin", config.max_data_tokens)
    if config.heldout is None:
        train, heldout = train.split(HELDOUT_SHARE)
    else:
        heldout = _tokens(config.heldout, tokenizer, folder / "heldout.bin", None)
    if len(heldout.tokens) < 2:
        raise InputError(f"heldout={config.heldout!r} has {len(heldout.tokens)} tokens: too few")
    return TrainingData(tokenizer, train, heldout)


def _tokenizer(config: TrainConfig, folder: Path) -> PreTrainedTokenizerFast:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    if config.data.endswith(".bin"):
        beside = Path(config.data).with_name("tokenizer.json")
        if not beside.is_file():
            raise ConfigError(
                f"tokenizer=None, and there is no {str(beside)!r} beside the token file"
            )
        return load_tokenizer(beside)
    made = folder / "tokenizer.json"
    if not made.is_file():
        tokenizer = train_tokenizer(read_documents(config.data), config.vocab_size)
        made.parent.mkdir(parents=True, exist_ok=True)
        partial = made.with_suffix(".tmp")
        tokenizer.backend_tokenizer.save(str(partial))
        partial.replace(made)
    return load_tokenizer(made)


def _tokens(
    source: str, tokenizer: PreTrainedTokenizerFast, made: Path, max_tokens: int | None
) -> TokenFile:
    if source.endswith(".bin"):
        tokens = TokenFile.open(source)
    elif made.with_suffix(".json").is_file():
        tokens = TokenFile.open(made)
    else:
        tokens = write_tokens(read_documents(source), tokenizer, made, max_tokens)
    if tokens.tokenizer_hash != tokenizer_hash(tokenizer):
        raise InputError(f"{str(tokens.path)!r} was made with another tokenizer than the given one")
    return tokens
