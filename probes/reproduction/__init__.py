"""The comparison of all families: trained on the same text, measured alike, told in one document."""

from probes.reproduction.config import ReproduceConfig
from probes.reproduction.run import Stage, reproduce
from probes.reproduction.store import Metrics

__all__ = ["Metrics", "ReproduceConfig", "Stage", "reproduce"]
