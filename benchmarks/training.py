"""A step of our trainer against a bare PyTorch loop over the same network, and of every loop against its FLOPs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from abbie_lens.flops import flops_per_token
from abbie_lens.loops import AbbieD, LoopFamily, Std, encode, family
from abbie_lens.training import TokenFile, TrainConfig, tokenizer_hash, train_tokenizer
from abbie_lens.training.data import TextData
from abbie_lens.training.trainer import Trainer, make_accelerator
from benchmarks.plain import PlainLoop, PlainLooped
from benchmarks.shapes import Shape
from benchmarks.timing import Pairs, paired

WARMUP = 2


def training_vs_plain(shape: Shape, pairs: int) -> Pairs:
    """A trainer's step / a plain loop's step, AbbIE-D; both take the same steps, loss for loss."""
    n_steps = WARMUP + pairs
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(shape, AbbieD(), n_steps, folder)
        plain = _plain(shape, trainer, n_steps)
        losses: dict[str, list[torch.Tensor]] = {"ours": [], "plain": []}
        ours = lambda: losses["ours"].append(trainer.step(len(losses["ours"]))[0])  # noqa: E731
        theirs = lambda: losses["plain"].append(plain.step(len(losses["plain"])))  # noqa: E731
        timed = paired(ours, theirs, pairs, warmup=WARMUP, device=shape.device)
    _require_equal_losses(*losses.values())
    return timed


def preset_shape(name: str, shape: Shape) -> Shape:
    """The shape with the family's own depth, and all blocks in the Body where it loops the whole stack."""
    preset = family(name).shape(shape.d_model)
    whole = preset.get("n_head_blocks") == 0
    return replace(
        shape,
        blocks=(0, sum(shape.blocks), 0) if whole else shape.blocks,
        n_iters=preset.get("n_iters", shape.n_iters),
    )


def step_vs_flops(name: str) -> Callable[[Shape, int], Pairs]:
    """What times a training step of family `name` against the time that its FLOPs predict."""

    def measure(shape: Shape, pairs: int) -> Pairs:
        shape = preset_shape(name, shape)
        n_steps = WARMUP + pairs
        with tempfile.TemporaryDirectory() as folder:
            looped = _trainer(shape, family(name)(), n_steps, folder)
            plain = _trainer(replace(shape, n_iters=1), Std(), n_steps, folder)
            steps = iter(range(n_steps)), iter(range(n_steps))
            timed = paired(
                lambda: looped.step(next(steps[0])),
                lambda: plain.step(next(steps[1])),
                pairs,
                warmup=WARMUP,
                device=shape.device,
            )
            # Backward costs twice forward's FLOPs in both, as all iterations carry gradient.
            predicted = flops_per_token(looped.model) / flops_per_token(plain.model)
        return Pairs(timed.ours, timed.theirs * predicted)

    measure.__doc__ = f"A training step of {name} / the time of a step of std over as many blocks, times the ratio of their FLOPs."
    return measure


def _trainer(shape: Shape, loop: LoopFamily, n_steps: int, folder: str) -> Trainer:
    bf16 = shape.dtype is torch.bfloat16
    config = TrainConfig(
        model=loop.shape(shape.d_model) | shape.fields() | {"loop": encode(loop), "seed": 0},
        recipe={"depth": "fixed"},
        data="random tokens",
        out=folder,
        train_tokens=n_steps * shape.batch * (shape.pos - 1),
        batch_size=shape.batch,
        warmup_steps=1,
        precision="bfloat16" if bf16 else "float32",
        device=None if shape.device == "cuda" else shape.device,
    )
    return Trainer(config, _random_data(shape, n_steps), make_accelerator(config))


def _random_data(shape: Shape, n_steps: int) -> TextData:
    tokenizer = train_tokenizer([], vocab_size=257)
    n_tokens = (n_steps + 2) * shape.batch * shape.pos
    ids = np.random.default_rng(0).integers(shape.d_vocab, size=n_tokens, dtype=np.uint16)
    tokens = TokenFile(
        Path("random.bin"), ids, np.zeros(1, int), shape.d_vocab, 0, tokenizer_hash(tokenizer)
    )
    return TextData(tokenizer, tokens, tokens)


def _plain(shape: Shape, trainer: Trainer, n_steps: int) -> PlainLoop:
    model = PlainLooped(shape)
    weights = trainer.model.state_dict()
    weights.pop("unembed.weight", None)  # tied: the embedding's own
    model.load_state_dict(weights)
    batches = [
        torch.from_numpy(trainer.batches(step)[0]).to(shape.device) for step in range(n_steps)
    ]
    return PlainLoop(
        model.to(shape.device),
        batches,
        trainer.learning_rate,
        weight_decay=trainer.config.weight_decay,
        grad_clip=trainer.config.grad_clip,
        bf16=trainer.bf16,
    )


def _require_equal_losses(ours: list[torch.Tensor], plain: list[torch.Tensor]) -> None:
    """The loss curves agree: exactly at first, later up to rounding that training amplifies."""
    a, b = torch.stack(ours).cpu(), torch.stack(plain).cpu()
    torch.testing.assert_close(a[0], b[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)
