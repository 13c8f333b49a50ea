"""LoopedConfig: plain JSON and back, and every contradiction named."""

import json

import pytest

from abbie_lens import LoopedConfig, errors
from abbie_lens.loops import FAMILIES, AbbieC, AbbieD, Std


@pytest.mark.parametrize(
    "loop", [Std(), AbbieC(), AbbieD("literal"), AbbieD("skip_first")], ids=str
)
def test_json_round_trip(tiny_config, loop):
    config = tiny_config(loop, dtype="bfloat16", n_key_value_heads=2)
    assert LoopedConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.to_dict()["loop"]["family"] == loop.family


def test_families_are_registered_under_their_own_names():
    assert all(cls.family == name for name, cls in FAMILIES.items())
    assert set(FAMILIES) >= {"std", "abbie-c", "abbie-d"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_heads": 5, "d_head": None}, "n_heads=5"),
        ({"d_model": 0}, "d_model=0"),
        ({"n_iters": -1}, "n_iters=-1"),
        ({"n_body_blocks": 0}, "n_body_blocks=0"),
        ({"act_fn": "sine"}, "act_fn='sine'"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"n_key_value_heads": 3}, "n_key_value_heads=3"),
        ({"d_head": 7}, "d_head=7"),
        ({"loop": {"family": "abbie-x"}}, "Nearest: abbie-"),
        ({"loop": {"family": "abbie-d", "residual": "twice"}}, "residual='twice'"),
        ({"loop": {"family": "abbie-c", "residual": "between"}}, "unknown setting 'residual'"),
        ({"colour": 3}, "unknown field 'colour'"),
    ],
    ids=str,
)
def test_contradictions_are_named(tiny_config, changes, says):
    with pytest.raises(errors.ConfigError, match=says):
        LoopedConfig.from_dict({**tiny_config().to_dict(), **changes})


def test_a_missing_field_is_a_clear_error():
    with pytest.raises(errors.ConfigError, match="d_model"):
        LoopedConfig.from_dict({"n_heads": 2})


def test_layers_of_the_equivalent_plain_transformer(tiny_config):
    assert tiny_config().n_layers(5) == 1 + 5 * 2 + 1
