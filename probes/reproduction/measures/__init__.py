"""The measures, one file each; they run in this order."""

from __future__ import annotations

from probes.reproduction.measures.base import Measure, Subject
from probes.reproduction.measures.nll import NLL

MEASURES: dict[str, type[Measure]] = {cls.name: cls for cls in (NLL,)}

__all__ = ["MEASURES", "Measure", "Subject"]
