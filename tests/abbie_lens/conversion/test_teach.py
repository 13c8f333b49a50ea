"""A plain model is taught to loop: r = 1 stays as it was, r = 2 gets better, and what was learnt travels alone."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from abbie_lens import load
from abbie_lens.conversion.adapter import load_adapter, save_adapter
from abbie_lens.conversion.lesson import Lesson
from abbie_lens.conversion.report import document, read_runs, write_report
from abbie_lens.conversion.teach import teach
from abbie_lens.errors import CheckpointError, ConfigError, InputError
from abbie_lens.files.inspect import inspect
from abbie_lens.loops import Std

TEXT = "the cat sat on the mat, and the rat ran; then the cat ran. "
TOKENS = torch.randint(0, 90, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model, tiny_tokenizer):
    """A folder with a plain model of four blocks and two texts."""
    folder = tmp_path_factory.mktemp("teach")
    sizes = dict(n_head_blocks=0, n_body_blocks=4, n_tail_blocks=0, n_iters=1)
    plain = tiny_model(Std(), tokenizer=tiny_tokenizer, d_vocab=len(tiny_tokenizer), **sizes)
    plain.save_pretrained(folder / "plain")
    (folder / "train.txt").write_text("\f".join([TEXT * 20] * 4))
    (folder / "heldout.txt").write_text("\f".join([TEXT * 9] * 3))
    return folder


def lesson(place, **changes):
    given = dict(
        source=str(place / "plain"), start=1, stop=3, rank=4, n_ctx=24, train_tokens=1500, batch_size=4,
        micro_batch_size=2, warmup_steps=2, learning_rate=1e-2, measured_windows=12,
    )  # fmt: skip
    return Lesson(**given | changes)


def taught(place, name, **changes):
    texts = str(place / "train.txt"), str(place / "heldout.txt")
    return teach(
        lesson(place, **changes), *texts, place / name, tokens=place / "tokens",
        on_progress=lambda now: None,
    )  # fmt: skip


def nll(run, when):
    sums = json.loads((run / f"{when}.json").read_text())
    means = np.array(sums["total"]).sum(0) / np.sum(sums["count"])
    return dict(zip(sums["n_iters"], means, strict=True))


@pytest.fixture(scope="module")
def run(place):
    return taught(place, "runs/abbie-d")


@pytest.mark.parametrize("loop", ["abbie-d", "repeat", "steps"])
def test_adapters_leave_the_first_iteration_alone_and_help_the_second(place, loop):
    made = taught(place, f"runs/{loop}", loop=loop)
    before, after = nll(made, "before"), nll(made, "after")
    assert after[1] == before[1] and after[2] < before[2] - 0.02
    plain, final = load(place / "plain", device="cpu"), load(made / "training/final", device="cpu")
    torch.testing.assert_close(final(TOKENS, n_iters=1), plain(TOKENS), atol=1e-6, rtol=0)
    theirs, ours = plain.state_dict(), final.state_dict()
    stage = {0: "head.0", 1: "body.0", 2: "body.1", 3: "tail.0"}
    for name, tensor in theirs.items():
        if name.startswith("body."):
            _, b, rest = name.split(".", 2)
            name = f"{stage[int(b)]}.{rest}"
        assert torch.equal(ours[name], tensor), "the base is frozen"


@torch.no_grad()
def test_an_adapter_alone_is_the_trained_model(place, run):
    files = {file.name: file.stat().st_size for file in (run / "adapter").iterdir()}
    assert set(files) == {"adapter.safetensors", "adapter.json"}
    final, again = load(run / "training/final", device="cpu"), load(run / "adapter", device="cpu")
    torch.testing.assert_close(again(TOKENS), final(TOKENS))
    assert (again.cfg.n_iters, final.cfg.n_ctx) == (2, 24)
    assert again.cfg.n_ctx == load(place / "plain", device="cpu").cfg.n_ctx == 64


def test_an_adapter_on_other_weights_warns_and_of_another_shape_is_refused(
    place, run, tmp_path, tiny_model
):
    other = load(place / "plain", device="cpu").randomized(3)
    with pytest.warns(UserWarning, match="learnt on other weights"):
        load_adapter(run / "adapter", other)
    broken = tmp_path / "adapter"
    broken.mkdir()
    (broken / "adapter.json").write_text((run / "adapter/adapter.json").read_text())
    tensors = load_file(run / "adapter/adapter.safetensors")
    name = next(iter(tensors))
    save_file(tensors | {name: torch.zeros(3, 3)}, broken / "adapter.safetensors")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_adapter(broken)
    (broken / "adapter.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="damaged"):
        load_adapter(broken)
    with pytest.raises(CheckpointError, match=r"learnt, alone.* load this folder"):
        inspect(run / "adapter")
    (broken / "adapter.json").write_text("{}")
    with pytest.raises(CheckpointError, match="'lesson' is missing"):
        load_adapter(broken)
    with pytest.raises(InputError, match="std has no adapters"):
        save_adapter(tiny_model(Std()), lesson(place), tmp_path / "none")


def test_the_body_can_be_trained_whole(place):
    made = taught(place, "body", train="body", learning_rate=3e-3)
    start, final = (load(made / part, device="cpu") for part in ("start", "training/final"))
    changed = {n for n, p in final.named_parameters() if not torch.equal(p, start.get_parameter(n))}
    assert changed and all(n.startswith("body.") for n in changed)
    assert final.cfg.loop.family == "abbie-d" and not (made / "adapter").exists()
    assert nll(made, "after")[2] < nll(made, "before")[2]


def test_a_run_goes_on_where_it_stopped(place, run, monkeypatch):
    from abbie_lens.conversion import teach as module

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            taught(place, "stopped")
    mark = (place / "stopped/before.json").stat().st_mtime_ns
    again = taught(place, "stopped")
    assert (again / "before.json").stat().st_mtime_ns == mark, "measured once"
    for name in ("before", "after"):
        assert (again / f"{name}.json").read_text() == (run / f"{name}.json").read_text()
    with pytest.raises(ConfigError, match=r"rank=5: .* was begun with 4"):
        taught(place, "stopped", rank=5)


def test_the_report_says_what_was_measured(place, run):
    with pytest.raises(InputError, match="holds no finished retrofit"):
        read_runs(place / "tokens")
    taught(place, "runs/control", control=True)
    file = write_report(place / "runs", place / "docs/retrofit.md")
    text = file.read_text()
    after = nll(run, "after")
    control = nll(place / "runs/control", "after")
    assert set(control) == {1}
    for words, value in (
        ("abbie-d: r = 2 − r = 1", after[2] - after[1]),
        ("abbie-d, r = 2 − control", after[2] - control[1]),
        ("control − source", control[1] - after[1]),
    ):
        assert f"| {words} | {value:+.3f} | " in text
    assert f"| abbie-d | 2 | {nll(run, 'before')[2]:.3f} |" in text
    assert "* abbie-d: r = 2 − r = 1: **lower**." in text and str(place) not in text
    kept = file.with_suffix("")
    assert write_report(kept, file).read_text() == text, "written again from what it kept"
    assert document(read_runs(kept)) == text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(stop=1), "stop=1: expected more than start=1"),
        (dict(loop="damped"), "loop='damped': expected one of abbie-d, repeat, steps"),
        (dict(train="all"), "train='all'"),
        (dict(train="body", loop="steps"), "train='body': expected adapters"),
        (dict(n_iters=1), "n_iters=1: expected at least 2"),
        (dict(rank=0), "rank=0"),
        (dict(precision="int8"), "precision='int8'"),
        (dict(learning_rate="fast"), "learning_rate='fast'"),
    ],
)
def test_lessons_that_cannot_be_taught(place, changes, says):
    with pytest.raises(ConfigError, match=says):
        lesson(place, **changes)


def test_blocks_that_are_not_there(place):
    with pytest.raises(InputError, match="stop=9: the source has 4 blocks"):
        lesson(place, stop=9).looped(load(place / "plain", device="cpu"))
