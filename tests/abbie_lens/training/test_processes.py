"""Two processes under torchrun take the steps that one takes."""

import json
import os
import subprocess
import sys

import pytest

from abbie_lens.training import train

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


def test_two_processes_equal_one(settings, losses, tmp_path, project_root):
    config = settings(tmp_path / "two", train_tokens=8 * 23 * 6, micro_batch_size=2)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "worker.py").write_text(WORKER)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         str(tmp_path / "worker.py"), str(tmp_path / "config.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_root)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # two processes share the pipe: their lines may interleave
    assert done.stdout.count("{(2, 4)}") == 2, done.stdout
    train(settings(tmp_path / "one", train_tokens=8 * 23 * 6), on_progress=lambda now: None)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
