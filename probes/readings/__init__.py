"""What a result says, in numbers with a sentence each: for the dashboard and the report, computed and never canned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from probes.dynamics.attention import Attention
from probes.dynamics.basins import PathIndependence
from probes.dynamics.per_block import PerBlock
from probes.dynamics.similarity import Similarity
from probes.dynamics.spectrum import Spectrum
from probes.fixed_point_result import FixedPoint
from probes.readings import attention, fixed_point, loop
from probes.readings.base import Reading
from probes.readings.fixed_point import headline
from probes.result import Result

__all__ = ["Reading", "headline", "of"]

_READERS: dict[type[Result], Callable[[Any], tuple[Reading, ...]]] = {
    FixedPoint: fixed_point.readings,
    Spectrum: loop.spectrum,
    PathIndependence: loop.path_independence,
    PerBlock: loop.per_block,
    Similarity: loop.similarity,
    Attention: attention.readings,
}


def of(result: Result) -> tuple[Reading, ...]:
    """The numbers of a result that are worth a sentence; none for a kind of result that has no reader."""
    reader = _READERS.get(type(result))
    return () if reader is None else reader(result)
