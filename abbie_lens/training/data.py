"""What a run reads and is judged on: text prepared once in its folder, or a task's own questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerFast

from abbie_lens import tasks
from abbie_lens.corpus import read_documents
from abbie_lens.errors import ConfigError, InputError
from abbie_lens.files.load import find
from abbie_lens.tasks.evaluate import TaskEvaluation, accuracy

from .batches import Batches
from .config import TrainConfig
from .evaluate import Evaluation, OnWindows, evaluate
from .tokenizer import load_tokenizer, tokenizer_hash, train_tokenizer
from .tokens import TokenFile, write_tokens

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

HELDOUT_SHARE = 0.01


class DrawBatch(Protocol):
    """Training batches as a function of the step."""

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Tokens [batch, pos] int64, and which of them are to be predicted [batch, pos]; None: all."""
        ...


class TrainingData(Protocol):
    """Everything a run reads."""

    tokenizer: PreTrainedTokenizerFast
    judged_by: str
    """What `judge` returns, in words."""

    def batches(self, n_ctx: int, batch_size: int, seed: int) -> DrawBatch:
        """The training batches."""
        ...

    def identity(self) -> dict[str, Any]:
        """What a resumed run must find again, as plain JSON."""
        ...

    def judge(
        self, model: HookedLoopedTransformer, config: TrainConfig, batch_size: int
    ) -> dict[int, float]:
        """A quick figure by depth, for the curve."""
        ...

    def evaluate(
        self,
        model: HookedLoopedTransformer,
        config: TrainConfig,
        batch_size: int,
        progress: OnWindows,
    ) -> Evaluation | TaskEvaluation:
        """The full evaluation at the end."""
        ...


class TextData:
    """Token files and their tokenizer."""

    judged_by = "held-out NLL"

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, train: TokenFile, heldout: TokenFile
    ) -> None:
        self.tokenizer, self.train, self.heldout = tokenizer, train, heldout

    def batches(self, n_ctx: int, batch_size: int, seed: int) -> DrawBatch:
        """Windows of the training text, all tokens of which are predicted."""
        text = self.train
        windows = Batches(
            text.tokens, separator=text.separator, n_ctx=n_ctx, batch_size=batch_size, seed=seed
        )
        return lambda step: (windows(step), None)

    def identity(self) -> dict[str, Any]:
        """Length and tokenizer."""
        return {
            "n_tokens": len(self.train.tokens),
            "tokenizer_hash": self.train.tokenizer_hash,
        }

    def judge(
        self, model: HookedLoopedTransformer, config: TrainConfig, batch_size: int
    ) -> dict[int, float]:
        """NLL of some held-out windows."""
        depths = config.eval_n_iters
        windows = config.eval_windows
        made = evaluate(
            model, self.heldout, depths, max_windows=windows, batch_size=batch_size, n_bootstrap=1
        )
        return dict(zip(depths, made.nll, strict=True))

    def evaluate(
        self,
        model: HookedLoopedTransformer,
        config: TrainConfig,
        batch_size: int,
        progress: OnWindows,
    ) -> Evaluation:
        """NLL of the held-out text, with intervals."""
        return evaluate(
            model,
            self.heldout,
            config.final_n_iters,
            max_windows=config.final_windows,
            batch_size=batch_size,
            progress=progress,
        )


class TaskData:
    """A task: questions are drawn as they are needed, only answers are learnt."""

    judged_by = "accuracy"

    def __init__(self, task: tasks.Task) -> None:
        self.task, self.tokenizer = task, task.tokenizer()

    def batches(self, n_ctx: int, batch_size: int, seed: int) -> tasks.TaskBatches:
        """Rows of the train split. Errors: ConfigError for a context that does not fit the task's."""
        if n_ctx != self.task.n_ctx:
            raise ConfigError(
                f"n_ctx={n_ctx}: expected {self.task.n_ctx}, the length of the task's rows."
            )
        return tasks.TaskBatches(self.task, batch_size, seed)

    def identity(self) -> dict[str, Any]:
        """The task's settings."""
        return tasks.encode(self.task)

    def judge(
        self, model: HookedLoopedTransformer, config: TrainConfig, batch_size: int
    ) -> dict[int, float]:
        """Mean accuracy over the difficulties trained on, of questions not trained on."""
        made = accuracy(
            model,
            self.task,
            config.eval_n_iters,
            self.task.train_difficulty,
            n_instances=4 * config.eval_windows,
            batch_size=batch_size,
        )
        return dict(zip(config.eval_n_iters, made.accuracy.mean(1).tolist(), strict=True))

    def evaluate(
        self,
        model: HookedLoopedTransformer,
        config: TrainConfig,
        batch_size: int,
        progress: OnWindows,
    ) -> TaskEvaluation:
        """Accuracy by depth and needed steps, beyond those trained on."""
        return accuracy(
            model,
            self.task,
            config.final_n_iters,
            n_instances=config.final_windows or 2000,
            batch_size=batch_size,
            progress=progress,
        )


def prepare(config: TrainConfig, folder: Path) -> TrainingData:
    """The task; or token files, opened or made (with the tokenizer) from text in `folder`, which is reused."""
    if config.task is not None:
        return TaskData(tasks.decode(config.task))
    tokenizer = _tokenizer(config, folder)
    train = _tokens(config.data, tokenizer, folder / "train.bin", config.max_data_tokens)
    if config.heldout is None:
        train, heldout = train.split(HELDOUT_SHARE)
    else:
        heldout = _tokens(config.heldout, tokenizer, folder / "heldout.bin", None)
    if len(heldout.tokens) < 2:
        raise InputError(f"heldout={config.heldout!r} has {len(heldout.tokens)} tokens: too few")
    return TextData(tokenizer, train, heldout)


def _tokenizer(config: TrainConfig, folder: Path) -> PreTrainedTokenizerFast:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    if config.init_from is not None:
        return load_tokenizer(find(config.init_from))
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
