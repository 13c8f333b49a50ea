"""The measures, one file each; they run in this order."""

from __future__ import annotations

from probes.reproduction.measures.attention import MeasureAttention
from probes.reproduction.measures.base import Measure, Subject
from probes.reproduction.measures.compute import CountCompute
from probes.reproduction.measures.fixed_points import MeasureFixedPoints
from probes.reproduction.measures.gates import MeasureGates
from probes.reproduction.measures.hops import MeasureHops
from probes.reproduction.measures.nll import NLL
from probes.reproduction.measures.pondering import MeasurePondering
from probes.reproduction.measures.stability import MeasureStability

MEASURES: dict[str, type[Measure]] = {
    cls.name: cls
    for cls in (
        *(NLL, CountCompute, MeasureFixedPoints),
        *(MeasureStability, MeasurePondering, MeasureGates, MeasureAttention, MeasureHops),
    )
}

__all__ = ["MEASURES", "Measure", "Subject"]
