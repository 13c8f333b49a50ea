"""What a resumed run must share with the run it continues."""

from __future__ import annotations

from typing import Any

from abbie_lens.errors import ConfigError

from .config import FREE_ON_RESUME, TrainConfig
from .schedule import decay_start


def require_same(config: TrainConfig, now: dict[str, Any], before: dict[str, Any]) -> None:
    """ConfigError unless `config` continues the loss curve of the checkpoint's state `before`.

    The length may change until the learning rate decays: up to there the curves are the same.
    """
    # Through the dataclass: settings that did not exist then take their defaults.
    earlier = TrainConfig.from_dict(before["config"]).to_dict()
    for name in sorted(earlier.keys() - FREE_ON_RESUME):
        if now["config"][name] != earlier[name]:
            raise ConfigError(
                f"{name}={now['config'][name]!r}: the run to resume was started with {earlier[name]!r}"
            )
    if (corpus := before.get("corpus", now["corpus"])) != now["corpus"]:
        raise ConfigError(
            f"data={config.data!r} is not the text the run was started with: "
            f"{now['corpus']} instead of {corpus}"
        )
    lengths = (before["n_steps"], now["n_steps"])
    if lengths[0] != lengths[1] and config.looped_recipe().depth == "curriculum":
        raise ConfigError(
            f"train_tokens={config.train_tokens}: the mean depth of a curriculum depends on the length of the "
            f"run, which was {lengths[0]} steps and would be {lengths[1]}"
        )
    decaying = min(decay_start(n, config.decay_fraction) for n in lengths)
    if lengths[0] != lengths[1] and before["step"] > decaying:
        raise ConfigError(
            f"train_tokens={config.train_tokens}: at step {before['step']} the learning rate "
            f"already decays in a run of {min(lengths)} steps"
        )
