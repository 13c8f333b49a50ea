"""What a run tells an experiment tracker: the same numbers as its own metrics, and when it is over."""

import json

import pytest
from accelerate import tracking

from abbie_lens.training import metrics, train


@pytest.fixture
def tracker(monkeypatch):
    """accelerate's wandb tracker, replaced by one that keeps what it is told; nothing leaves this process."""

    told = {"config": None, "rows": [], "finished": 0}

    class Kept(tracking.GeneralTracker):
        name, requires_logging_directory, main_process_only = "wandb", False, True
        tracker = None

        def __init__(self, project, **settings):
            super().__init__()

        def store_init_configuration(self, values):
            told["config"] = values

        def log(self, values, step=None, **settings):
            told["rows"].append({"step": step, **values})

        def finish(self):
            told["finished"] += 1

    monkeypatch.setattr(tracking, "is_wandb_available", lambda: True)
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.WANDB])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Kept)
    return told


def test_a_tracker_hears_what_the_metrics_say(settings, tracker, tmp_path):
    config = settings(tmp_path / "run", train_tokens=8 * 23 * 12, trackers=("wandb",))
    train(config, on_progress=lambda now: None)
    assert json.loads(tracker["config"]["run"]) == config.to_dict()
    assert tracker["rows"] == metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert len(tracker["rows"]) == 12 + 2  # every step, and the held-out losses after 10 and 12
    assert tracker["finished"] == 1
