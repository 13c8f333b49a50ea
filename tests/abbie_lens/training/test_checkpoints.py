"""A checkpoint is whole or refused."""

import pytest
import torch

from abbie_lens import HookedLoopedTransformer
from abbie_lens.errors import CheckpointError
from abbie_lens.training import checkpoints


@pytest.fixture
def trained(tiny_config):
    def make(seed=0, **changes):
        model = HookedLoopedTransformer(tiny_config(seed=seed, **changes))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        return model, optimizer

    return make


def one_step(model, optimizer):
    model(torch.arange(20)[None], return_type="loss").backward()
    optimizer.step()
    optimizer.zero_grad()
    return [p.detach().clone() for p in model.parameters()]


def test_a_restored_run_takes_the_same_next_step(trained, tmp_path):
    model, optimizer = trained()
    one_step(model, optimizer)
    path = checkpoints.save(tmp_path, 7, model, optimizer, {"note": "n"})
    other, its_optimizer = trained(seed=1)
    checkpoints.restore(path, other, its_optimizer)
    assert checkpoints.read_state(path)["step"] == 7
    assert checkpoints.read_state(path)["note"] == "n"
    for a, b in zip(one_step(model, optimizer), one_step(other, its_optimizer), strict=True):
        assert torch.equal(a, b)


def test_the_newest_two_stay_and_unfinished_ones_go(trained, tmp_path):
    model, optimizer = trained()
    one_step(model, optimizer)
    (tmp_path / ".partial-1").mkdir()
    for step in (1, 2, 10):
        checkpoints.save(tmp_path, step, model, optimizer, {})
    assert [p.name for p in checkpoints.steps(tmp_path)] == ["step-000000002", "step-000000010"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damage_is_reported(trained, tmp_path, name, damage):
    model, optimizer = trained()
    one_step(model, optimizer)
    path = checkpoints.save(tmp_path, 1, model, optimizer, {})
    if damage == "cut":
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: len(content) // 2])
    else:
        (path / name).unlink()
    with pytest.raises(CheckpointError, match=r"step-000000001 is damaged.*the one before it"):
        checkpoints.read_state(path)
        checkpoints.restore(path, model, optimizer)


def test_weights_of_another_shape_are_refused(trained, tmp_path):
    model, optimizer = trained()
    one_step(model, optimizer)
    path = checkpoints.save(tmp_path, 1, model, optimizer, {})
    with pytest.raises(CheckpointError, match=r"of another shape.*mlp"):
        checkpoints.restore(path, *trained(d_mlp=32))
    with pytest.raises(CheckpointError, match=r"missing \['tail\.1"):
        checkpoints.restore(path, *trained(n_tail_blocks=2))
