"""Two processes, told of each other as torchrun tells them, take the steps that one takes."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from abbie_lens.training import train
from abbie_lens.training.data import prepare
from abbie_lens.training.trainer import Trainer
from tests import warm

WORKER = """
import sys
import torch.distributed
from abbie_lens.training import TrainConfig, train, trainer

seen = set()
step = trainer.Trainer.step

def watched(self, number):
    seen.add((torch.distributed.get_world_size(), len(self.rows)))
    return step(self, number)

trainer.Trainer.step = watched
train(TrainConfig.from_file(sys.argv[1]))
print("(world size, windows each):", seen, flush=True)
"""


TASK = dict(
    data="", heldout=None, task={"task": "k-hop", "n_nodes": 8, "train_difficulty": [1, 2],
    "test_difficulty": [1, 3], "n_ctx": 48}, eval_windows=4, final_windows=8,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "task"])
def test_two_processes_equal_one(settings, losses, tmp_path, kind):
    """On a task too, where the processes hold different numbers of answers."""
    changes, length = ({}, 23) if kind == "text" else (TASK, 47)

    def config(folder, **more):
        made = settings(tmp_path / folder, train_tokens=8 * length * 6, **changes, **more)
        return dataclasses.replace(made, model={**made.model, "n_ctx": length + 1})

    two = config("two", micro_batch_size=2)
    (tmp_path / "config.json").write_text(json.dumps(two.to_dict()))
    (tmp_path / "worker.py").write_text(WORKER)
    worker = [str(tmp_path / "worker.py"), str(tmp_path / "config.json")]
    for process in [warm.start(*worker, env=each) for each in warm.pair()]:
        assert process.wait() == 0, process.stderr
        assert process.stdout.count("{(2, 4)}") == 1, process.stdout
    train(config("one"), on_progress=lambda now: None)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)


def test_a_drawn_state_is_another_in_every_process(settings, tmp_path):
    drawn = []
    for index in (0, 1, 1):
        here = SimpleNamespace(
            process_index=index, num_processes=2, device=torch.device("cpu"),
            prepare_model=lambda module: module, backward=lambda loss: loss.backward(),
        )  # fmt: skip
        config = settings(tmp_path / "run")
        config = dataclasses.replace(config, model={**config.model, "loop": {"family": "0pt"}})
        trainer = Trainer(config, prepare(config, tmp_path / "data"), here)
        keep = lambda h, hook: drawn.append(h.detach().clone())  # noqa: E731
        with trainer.model.hooks([("loop.hook_state@0", keep)]):
            trainer.step(3)
    assert torch.equal(drawn[1], drawn[2]) and not torch.equal(drawn[0], drawn[1])
