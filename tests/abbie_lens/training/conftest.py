"""A corpus of a few kilobytes, and one uninterrupted run on it that others are compared with."""

import pytest

from abbie_lens.training import TrainConfig, train
from tests.corpus import text


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Folder with train.txt (5 documents) and heldout.txt (3)."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train.txt").write_text("\f".join(text(s, 900) for s in range(5)))
    (folder / "heldout.txt").write_text("\f".join(text(s, 250) for s in range(10, 13)))
    return folder


@pytest.fixture(scope="session")
def settings(corpus):
    """`settings(out, **changes)`: a TrainConfig of 24 steps that logs every one of them."""

    def make(out, **changes):
        plain = dict(
            model=dict(d_model=16, n_heads=2, n_ctx=24, n_iters=2, d_mlp=32),
            data=str(corpus / "train.txt"), heldout=str(corpus / "heldout.txt"), out=str(out),
            vocab_size=280, train_tokens=24 * 8 * 23, batch_size=8, learning_rate=3e-3,
            warmup_steps=4, log_every=1, eval_every=10, checkpoint_every=5, eval_windows=4,
            final_n_iters=(1, 2), device="cpu", threads=1,
        )  # fmt: skip
        return TrainConfig(**(plain | changes))

    return make


@pytest.fixture(scope="session")
def finished(settings, tmp_path_factory):
    """Folder of the uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(settings(out), on_progress=lambda now: None)
    return out


@pytest.fixture(scope="session")
def losses():
    """`losses(out)`: training loss by step of a run."""
    from abbie_lens.training import metrics

    def read(out):
        rows = [row for row in metrics.read(out / "metrics.jsonl") if "loss" in row]
        assert len({row["step"] for row in rows}) == len(rows), "a step was written twice"
        return {row["step"]: row["loss"] for row in rows}

    return read
