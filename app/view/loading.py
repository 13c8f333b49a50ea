"""Models as they are loaded: beside the page, in stages that are told, once for all visitors, and few kept.

A load goes on in a thread of its own. The page waits for it and shows how far it is; a visitor who turns to another page
or model meanwhile finds it going on, or done. One that fails is not begun again until somebody asks.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import abbie_lens
from abbie_lens.bridged import Loop
from abbie_lens.bridged.decoder import Decoder
from abbie_lens.bridged.load import read_decoder
from abbie_lens.errors import AbbieLensError, CheckpointError
from abbie_lens.files import hub, memory_plan
from abbie_lens.files.device import resolve_device
from abbie_lens.files.load import find
from abbie_lens.files.memory_plan import Where
from abbie_lens.files.plain import is_plain
from app import catalog, looping
from app.view import plain
from app.view.jobs import Job

MODELS, DECODERS = 4, 2
"""Models that are kept ready, and plain decoders as they were read: windows of one share its weights."""
AT_ONCE = 0.4
"""Seconds for which nothing is said: most loads are over by then."""
STAGES = ("finding its files", "reading its weights", "putting its blocks into a loop", "checking")

Key = tuple[str, Any, Loop | None]
"""Name, times of its files, loop."""


@dataclass(frozen=True)
class Loaded:
    """A model, and what tells its runs from another's."""

    model: Any
    checkpoint: tuple[str, str]
    """The weights alone do not: the same ones run in another loop are another model."""


class Shelf:
    """Loads by key, the oldest making room; every method may be called from any thread."""

    def __init__(self) -> None:
        self.jobs: OrderedDict[Key, Job] = OrderedDict()
        self.decoders: OrderedDict[tuple[str, Any], Decoder] = OrderedDict()
        self.lock = threading.RLock()
        self.reading = threading.Lock()
        """One load after the other: two at once take twice the memory and no less time."""

    def load(self, name: str, loop: Loop | None) -> Job:
        """The load of a model, begun now if it was not before."""
        key = (name, catalog.stamp(name), loop)
        with self.lock:
            if key not in self.jobs:
                self.jobs[key] = Job(lambda told: self._work(key, told))
            job = self.jobs[key]
            self.jobs.move_to_end(key)
            self._drop(self.jobs, MODELS)
            return job

    def forget(self, name: str) -> None:
        """Let the failed loads of a model be begun anew."""
        with self.lock:
            for key in [k for k, job in self.jobs.items() if k[0] == name and job.error]:
                del self.jobs[key]

    @staticmethod
    def _drop(kept: OrderedDict, most: int) -> None:
        older = list(kept.items())[:-1]  # the newest was just asked for
        idle = [k for k, value in older if not (isinstance(value, Job) and value.running)]
        for key in idle[: max(0, len(kept) - most)]:
            del kept[key]

    def _work(self, key: Key, told: Any) -> Loaded:
        name, stamp, loop = key
        try:
            with self.reading:
                return self._read(name, stamp, loop, lambda stage: told(stage, len(STAGES)))
        except AbbieLensError:
            raise
        except Exception as error:  # whatever another library says of a damaged file
            first = (str(error).strip().splitlines() or [""])[0]
            raise CheckpointError(
                f"{name}: cannot be loaded ({type(error).__name__}: {first})."
            ) from error.with_traceback(None)  # whose frames would hold what was read so far

    def _read(self, name: str, stamp: Any, loop: Loop | None, told: Any) -> Loaded:
        told(0)
        folder = catalog.folder(name) or find(name)
        if not is_plain(folder):
            told(1)
            model: Any = abbie_lens.load(name)
        else:
            decoder = self._decoder(name, stamp, folder, told)
            told(2)
            if loop is None:
                loop = looping.usual(catalog.describe(name).n_blocks or 1)
            model = decoder.looped(loop)
        told(3)
        settings = json.dumps(model.cfg.to_dict(), sort_keys=True)
        return Loaded(model, (model.info().weight_hash, settings))

    def _decoder(self, name: str, stamp: Any, folder: Path, told: Any) -> Decoder:
        with self.lock:
            known = self.decoders.get((name, stamp))
        if known is None:
            told(1)
            known = read_decoder(folder, name, Where(resolve_device()), None)
        with self.lock:
            self.decoders[name, stamp] = known
            self.decoders.move_to_end((name, stamp))
            self._drop(self.decoders, DECODERS)
        return known


@st.cache_resource(max_entries=1, show_spinner=False)
def _shelf() -> Shelf:
    return Shelf()


def loaded(name: str, loop: Loop | None = None) -> Loaded:
    """The model called `name`, waited for if it is on its way. Errors: AbbieLensError, in one line, if it failed."""
    job = watch(name, loop, None)
    if job.error is not None:
        raise job.error.with_traceback(None)
    return job.result


def watch(name: str, loop: Loop | None, place: DeltaGenerator | None) -> Job:
    """The load of a model, when it is over, well or not; what it is at stands in `place` (None: here) meanwhile."""
    if loop is None and (n_blocks := catalog.describe(name).n_blocks):
        loop = looping.usual(n_blocks)
    job = _shelf().load(name, loop)
    job.wait(AT_ONCE)
    if job.running:
        _watch(name, job, st.empty() if place is None else place)
    return job


def again(name: str) -> None:
    """Let a model that could not be loaded be tried again."""
    _shelf().forget(name)


def _watch(name: str, job: Job, place: DeltaGenerator) -> None:
    """What the load is at, until it is over."""
    with place.status(_said(name, job)) as status:
        while job.running:
            status.update(label=_said(name, job))
            job.wait(0.3)
    place.empty()


def _said(name: str, job: Job) -> str:
    """A line on a load: its stage, and the bytes that are read or fetched."""
    entry, stage = catalog.describe(name), STAGES[job.done]
    size = ""
    if job.done == 0 and entry.n_bytes is None and hub.is_hub_id(name):
        stage, size = (
            "fetching it from the hub",
            f": {memory_plan.size(hub.fetched_bytes(name))} so far",
        )
    elif job.done == 1 and entry.n_bytes is not None:
        size = f", {memory_plan.size(entry.n_bytes)}"
    called = plain.markdown(catalog.label(name))
    return f"Loading {called} ({job.done + 1} of {len(STAGES)}): {stage}{size}"
