"""The configuration says exactly how every family is trained, and what is impossible is told at once."""

import json
from pathlib import Path

import pytest

from abbie_lens.errors import ConfigError, InputError
from abbie_lens.training import TrainConfig
from probes.reproduction import ReproduceConfig
from probes.reproduction.config import BUNDLED
from probes.reproduction.plan import imagined, n_params

STARTED = json.loads(Path(__file__).with_name("novels_training.json").read_text())


@pytest.mark.parametrize("family", STARTED)
def test_novels_continues_the_runs_that_were_started(family):
    """Another model or recipe would refuse their checkpoints, or train something else under their name."""
    config = ReproduceConfig.load("novels")
    ours = config.training_of(family, Path("out"), Path("train.bin"), Path("heldout.bin"))
    started = {
        **STARTED[family], "data": "train.bin", "heldout": "heldout.bin",
        "tokenizer": "tokenizer.json", "out": "out",
    }  # fmt: skip
    assert ours.to_dict() == TrainConfig.from_dict(started).to_dict()


def test_novels_trains_the_families_of_the_started_runs():
    assert list(ReproduceConfig.load("novels").families) == list(STARTED)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_comparisons_have_equal_parameters_and_round_trip(name):
    config = ReproduceConfig.load(name)
    assert ReproduceConfig.from_dict(config.to_dict()) == config
    sizes = [n_params(imagined(config, family)[1]) for family in config.families]
    assert max(sizes) / min(sizes) < 1.05


def test_a_loop_over_the_whole_stack_has_as_many_blocks_as_the_others(tiny):
    shape = {**tiny().model, "n_head_blocks": 2, "n_body_blocks": 3, "n_tail_blocks": 1}
    model = tiny(model=shape, families={"lt": {}}).model_of("lt")
    assert [model[f"n_{s}_blocks"] for s in ("head", "body", "tail")] == [0, 6, 0]


def test_a_family_may_be_a_variant_under_a_name_of_its_own(tiny):
    loop = {"family": "abbie-d", "residual": "literal"}
    config = tiny(families={"abbie-d-literal": {"loop": loop}})
    assert config.loop_of("abbie-d-literal").residual == "literal"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"families": {"spiral": {"loop": {"schedule": [32, 1]}}}}, "schedule"),
        ({"families": {"adaponder": {"model": {"n_iters": 5}}}}, "max_iters"),
        ({"families": {"abbie-d": {"loop": {"gate_width": 4}}}}, "gate_width"),
        ({"families": {"abie-d": {}}}, "abbie-d"),
        ({"families": {"std": {"modle": {}}}}, "model"),
        ({"families": {}}, "families"),
        ({"families": {"std": {"model": {"n_heads": 3}}}}, "n_heads"),
        ({"families": {"std": {"training": {"micro_batch_size": 3}}}}, "micro_batch_size"),
        ({"families": {"std": {"training": {"recipe": {"los": "end"}}}}}, "los"),
        ({"training": {"out": "somewhere"}}, "out"),
        ({"measures": {"nll": {"windows": 0}}}, "windows"),
        ({"measures": {"nll": {"window": 1}}}, "window"),
        ({"measures": {"nnll": {}}}, "nll"),
        ({"measures": {"fixed_point": {"length": 25}}}, "n_ctx"),
        ({"data": "hf:some/text"}, "heldout"),
        ({"heldout_share": 1.0}, "heldout_share"),
    ],
)  # fmt: skip
def test_what_is_impossible_is_told_before_anything_is_trained(tiny, changes, named):
    with pytest.raises(ConfigError, match=named):
        tiny(**changes)


def test_unknown_families_and_files(tiny, tmp_path):
    with pytest.raises(InputError, match="abbie-d"):
        tiny().only(["abbie"])
    with pytest.raises(ConfigError, match="novels"):
        ReproduceConfig.load("novel")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="JSON object"):
        ReproduceConfig.load(tmp_path / "list.json")
