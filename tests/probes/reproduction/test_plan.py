"""A plan agrees with the rule of thumb, with the trained family itself, and says what it assumes."""

import pytest

from abbie_lens.errors import InputError
from abbie_lens.flops import Flops
from probes.reproduction import ReproduceConfig
from probes.reproduction.plan import PEAKS, _step_flops, plan


def test_a_plain_transformer_costs_about_six_flops_a_parameter_and_token():
    (std,) = plan(ReproduceConfig.load("350m").only(["std"]))
    assert std.training_flops / (6 * std.n_params * std.tokens) == pytest.approx(1.15, abs=0.1)
    assert std.tokens == pytest.approx(7e9, rel=0.01)
    assert 300e6 < std.n_params < 400e6


def test_hours_follow_the_gpu_and_its_utilisation():
    config = ReproduceConfig.load("quick").only(["abbie-d"])
    (slow,), (fast,), (other,) = (
        plan(config, "h100", 0.2),
        plan(config, "h100", 0.4),
        plan(config, "a100", 0.2),
    )
    assert slow.hours == pytest.approx(2 * fast.hours)
    assert other.hours / slow.hours == pytest.approx(PEAKS["h100"] / PEAKS["a100"])
    assert slow.hours == pytest.approx(slow.training_flops / (0.2 * PEAKS["h100"]) / 3600)


def test_only_iterations_with_gradient_cost_a_backward_pass():
    counted = Flops(8, 1.0, (10.0, 10.0), 2.0, 3.0)
    assert _step_flops(counted, 2, None, 1) == 3 * (20 + 1 + 5)
    assert _step_flops(counted, 5, 2, 1) == 30 + 3 * (20 + 1 + 5)
    assert _step_flops(counted, 2, None, 2) == 3 * (20 + 1 + 10)


def test_parameters_are_those_of_the_trained_model(tiny, finished):
    from abbie_lens.files.weights import stored_shapes

    for row in plan(tiny()):
        shapes = stored_shapes(finished / row.family / "final" / "model.safetensors")
        stored = 0
        for shape in shapes.values():
            size = 1
            for n in shape:
                size *= n
            stored += size
        # The vocabulary of the plan is the configured one, which this little text does not fill.
        assert abs(row.n_params - stored) <= 280 * 16


def test_a_deeper_loop_keeps_more_activations():
    rows = {
        row.family: row
        for row in plan(ReproduceConfig.load("quick").only(["std", "abbie-d", "lt"]))
    }
    assert rows["std"].memory_bytes < rows["abbie-d"].memory_bytes < rows["lt"].memory_bytes
    assert rows["std"].memory_bytes > 16 * rows["std"].n_params


@pytest.mark.parametrize(
    ("gpu", "utilisation", "named"), [("h1000", 0.3, "h100"), ("h100", 0.0, "utilisation")]
)
def test_unknown_gpu_and_impossible_utilisation(gpu, utilisation, named):
    with pytest.raises(InputError, match=named):
        plan(ReproduceConfig.load("quick"), gpu, utilisation)
