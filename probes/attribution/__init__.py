"""Direct logit attribution: what every component of every iteration adds to a logit."""

from probes.attribution.result import LogitAttribution
from probes.attribution.run import logit_attribution

__all__ = ["LogitAttribution", "logit_attribution"]
