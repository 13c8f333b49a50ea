"""A comparison of three families small enough to train in a moment, and its uninterrupted run."""

import pytest

from probes.reproduction import Metrics, ReproduceConfig, reproduce
from probes.reproduction.store import write_json
from tests.corpus import text


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny(**changes)`: std, abbie-d and adaponder for 3 steps on a few kilobytes."""
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\f".join(text(seed, 360) for seed in range(6)))

    def make(**changes):
        plain = {
            "name": "tiny",
            "model": {"d_model": 16, "n_heads": 2, "n_ctx": 24, "d_mlp": 32, "seed": 0},
            "training": {
                "train_tokens": 3 * 4 * 23, "batch_size": 4, "learning_rate": 3e-3,
                "warmup_steps": 1, "eval_every": 3, "checkpoint_every": 1, "log_every": 1,
                "eval_windows": 2, "final_n_iters": [1, 2], "final_windows": 4,
                "device": "cpu", "threads": 1,
            },
            "families": {"std": {}, "abbie-d": {}, "adaponder": {}},
            "data": str(file),
            "vocab_size": 280,
            "measures": {
                "nll": {"n_iters": [1, 2, 4], "windows": 24},
                "compute": {"n_iters": [0, 1, 2, 4]},
                "fixed_point": {"n_iters": 4, "prompts": 3, "length": 12},
                "stability": {
                    "families": ["std"], "n_iters": [1, 2], "steps": 2, "batch_size": 2,
                    "warmup_steps": 0, "prompts": 2,
                },
                "pondering": {"windows": 6, "shares": [0.5]},
                "gates": {"windows": 6, "thresholds": [0.5]},
                "attention": {"windows": 2},
                "khop": {
                    "families": {"abbie-d": {}, "adaponder": {}},
                    "task": {"n_nodes": 6, "n_ctx": 32, "train_difficulty": [1, 2], "test_difficulty": [1, 3]},
                    "model": {"d_model": 16, "n_heads": 2, "d_mlp": 32, "n_iters": 2},
                    "training": {
                        "train_tokens": 2 * 4 * 31, "batch_size": 4, "eval_every": 2, "checkpoint_every": 1,
                        "eval_windows": 1, "device": "cpu", "threads": 1,
                    },
                    "n_iters": [1, 2, 4], "n_instances": 8, "rows": 6,
                },
            },
        }  # fmt: skip
        return ReproduceConfig.from_dict({**plain, **changes})

    return make


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    """Folder of the uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    reproduce(tiny(), out)
    return out


@pytest.fixture(scope="session")
def contents():
    """`contents(folder)`: bytes of every file by relative path."""

    def read(folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read


@pytest.fixture
def made(tmp_path):
    """`made(family, measure, values)` stores hand-made metrics; `made.metrics` reads them."""

    class Made:
        metrics = Metrics(tmp_path / "metrics")
        families = ("std", "abbie-d", "0pt", "flt", "adaponder")

        def __init__(self):
            families = {name: {} for name in self.families}
            asked = {name: {} for name in self.families if name != "std"}
            config = {"families": families, "measures": {"khop": {"families": asked}}}
            write_json(self.metrics.folder / "config.json", config)

        def __call__(self, family, measure, values):
            self.metrics.write(family, measure, {}, values)

    return Made()
