"""What the launcher tells the dashboard, carried in environment variables named here only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

_VARIABLE = "ABBIE_LENS_APP"


@dataclass(frozen=True)
class Settings:
    """How one dashboard server was started."""

    models: tuple[str, ...] = ()
    """Model folders (or hub ids) offered beside the bundled ones; the first is shown at the start."""
    bundle: str | None = None
    """Bundle folder shown at the start, without a model."""
    root: str | None = None
    """A visitor may name folders below this one, and hub ids, to load models from; None: neither."""

    def to_env(self) -> dict[str, str]:
        """The environment variable that `from_env` reads."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process; the defaults where nothing was set."""
        env = os.environ if env is None else env
        stored = json.loads(env.get(_VARIABLE) or "{}")
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        known["models"] = tuple(known.get("models", ()))
        return cls(**known)
