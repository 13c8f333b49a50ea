"""Every benchmark with its target, and what running one gives."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch

from abbie_lens.loops import FAMILIES
from benchmarks import (
    collecting,
    diagnose,
    dynamics,
    fixed_points,
    halting,
    inference,
    interventions,
    memory,
    probing,
    shapes,
    training,
)
from benchmarks.peers import UnavailableError
from benchmarks.report import Row
from benchmarks.shapes import Shape
from benchmarks.timing import Once, Pairs

TIME, SPEED, BYTES = "ratio of times", "ratio of tokens/s", "ratio of bytes"
COUNT = "ratio of Body applications"


@dataclass(frozen=True)
class Benchmark:
    """A figure with a target, and the function that measures it."""

    name: str
    target: float
    better: str
    """"lower" or "higher"."""
    unit: str
    measure: Callable[[Shape, int], Pairs | Once]
    shape: Shape = shapes.CPU

    @property
    def runs_here(self) -> bool:
        """Whether this machine has the device."""
        return self.shape.device != "cuda" or torch.cuda.is_available()


_CPU = (
    Benchmark("forward_vs_transformers", 1.02, "lower", TIME, inference.forward_vs_transformers),
    Benchmark("states_capture", 1.05, "lower", TIME, inference.states_capture),
    Benchmark("resid_capture", 1.08, "lower", TIME, inference.resid_capture),
    Benchmark("resid_capture_vs_nnsight", 1.00, "lower", TIME, inference.resid_capture_vs_nnsight),
    Benchmark("resid_capture_vs_bridge", 0.72, "lower", TIME, inference.resid_capture_vs_bridge),
    Benchmark("full_capture_vs_bridge", 0.90, "lower", TIME, inference.full_capture_vs_bridge),
    Benchmark("training_vs_plain", 0.97, "higher", SPEED, training.training_vs_plain),
    Benchmark("collect_throughput", 0.85, "higher", SPEED, collecting.collect_throughput),
    Benchmark("distances_pass", 1.15, "lower", TIME, dynamics.distances_pass, dynamics.DEEP),
    Benchmark("load_peak_memory", 1.25, "lower", BYTES, memory.load_peak, shapes.LOADED),
    Benchmark("lens_memory", 1.1, "lower", BYTES, memory.lens_peak, memory.LENS),
    Benchmark("collect_memory", 1.05, "lower", BYTES, collecting.collect_memory, collecting.SMALL),
)
_GPU = tuple(replace(b, name=f"gpu_{b.name}", shape=shapes.GPU) for b in _CPU if b.unit != BYTES)
_LOOPS = tuple(
    Benchmark(
        f"{prefix}training_step_{name}",
        1.15,
        "lower",
        TIME,
        training.step_vs_flops(name),
        training.preset_shape(name, shape),
    )
    for prefix, shape in (("", shapes.CPU), ("gpu_", shapes.GPU))
    for name in FAMILIES
    if name != "std"
)
_PRETRAINED = (
    Benchmark("smollm2_diagnose", 60, "lower", "seconds", diagnose.smollm2_seconds, shapes.SMOLLM2),
    Benchmark("smollm2_diagnose_memory", 4, "lower", "GB", diagnose.smollm2_memory, shapes.SMOLLM2),
)
_DYNAMICS = (
    Benchmark(
        "spectral_radius_vs_dense",
        0.125,
        "lower",
        TIME,
        dynamics.spectral_radius,
        replace(shapes.CPU, batch=1, pos=64),
    ),
    Benchmark(
        "anderson_vs_plain",
        0.333,
        "lower",
        COUNT,
        fixed_points.anderson,
        replace(shapes.CPU, batch=1, pos=64),
    ),
    Benchmark(
        "anderson_vs_plain_flt",
        0.333,
        "lower",
        COUNT,
        fixed_points.anderson_flt,
        replace(shapes.CPU, batch=1, pos=64),
    ),
)
_INTERVENTIONS = tuple(
    Benchmark(
        f"{prefix}patching_grid",
        0.2,
        "lower",
        TIME,
        interventions.patching_grid,
        replace(interventions.GRID, device=device),
    )
    for prefix, device in (("", "cpu"), ("gpu_", "cuda"))
)
_HALTING = (
    Benchmark("halting_half", 0.62, "lower", TIME, halting.half_halted, halting.DEEP),
    Benchmark("halting_at_one", 1.10, "lower", TIME, halting.all_halted_at_one, halting.DEEP),
    Benchmark("halting_never", 1.05, "lower", TIME, halting.none_halted, halting.DEEP),
    Benchmark("halting_direction", 1.00, "lower", TIME, halting.direction_rule, halting.DEEP),
    Benchmark(
        "decoding_quarter_depth",
        2.5,
        "higher",
        SPEED,
        halting.decoding_at_a_quarter,
        halting.DECODED,
    ),
    Benchmark(
        "decoding_vs_transformers",
        1.0,
        "higher",
        SPEED,
        halting.decoding_vs_transformers,
        halting.DECODED,
    ),
)
_PROBING = (
    Benchmark("probes_logistic", 0.4, "lower", TIME, probing.logistic, probing.FULL),
    Benchmark("probes_ridge", 0.2, "lower", TIME, probing.ridge, probing.FULL),
    Benchmark("probes_ridge_one_penalty", 0.2, "lower", TIME, probing.ridge_alone, probing.FULL),
    Benchmark("gpu_probes_logistic", 0.05, "lower", TIME, probing.logistic, probing.FULL_GPU),
)
BENCHMARKS = {
    b.name: b
    for b in (
        *_CPU,
        *_GPU,
        *_LOOPS,
        *_DYNAMICS,
        *_PROBING,
        *_INTERVENTIONS,
        *_HALTING,
        *_PRETRAINED,
    )
}


def run(name: str, pairs: int, shape: Shape | None = None) -> Row:
    """One row of results.json, measured in this process; `value` is None where that can't be done here."""
    benchmark = BENCHMARKS[name]
    shape = benchmark.shape if shape is None else shape
    what = (benchmark.measure.__doc__ or "").splitlines()[0]
    try:
        if shape.device == "cuda" and not benchmark.runs_here:
            raise UnavailableError("this machine has no CUDA device")
        timed = benchmark.measure(shape, pairs)
    except UnavailableError as reason:
        return _row(benchmark, None, f"{what} Not measured: {reason}. {shape}.")
    if isinstance(timed, Once):
        detail = f"{what} {timed.detail} {shape}. {_machine(shape.device)}."
        return _row(benchmark, round(timed.value, 4), detail)
    ratios = timed.speed_ratios if benchmark.unit == SPEED else timed.time_ratios
    said = " ".join(filter(None, (what, _spread(timed, ratios, benchmark.unit), timed.note)))
    detail = f"{said} {shape}. {_machine(shape.device)}."
    return _row(benchmark, round(float(np.median(ratios)), 4), detail)


def run_apart(name: str, pairs: int, shape: Shape | None = None) -> Row:
    """`run` in a fresh process: no benchmark meets the heap, or the patches, that another left behind."""
    if not BENCHMARKS[name].runs_here:
        return run(name, pairs, shape)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, name, pairs, shape).result()


def _row(benchmark: Benchmark, value: float | None, detail: str) -> Row:
    return {
        "name": benchmark.name,
        "value": value,
        "target": benchmark.target,
        "better": benchmark.better,
        "unit": benchmark.unit,
        "detail": detail,
    }


def _machine(device: str) -> str:
    """Processor, cores, threads and versions."""
    processor = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return (
        f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _spread(timed: Pairs, ratios: np.ndarray, unit: str) -> str:
    low, high = np.percentile(ratios, [25, 75])
    what, factor, symbol = {
        BYTES: ("sizes", 2**-20, " MiB"),
        COUNT: ("counts", 1.0, ""),
    }.get(unit, ("times", 1e3, " ms"))
    ours, theirs = (factor * np.median(each) for each in (timed.ours, timed.theirs))
    return (
        f"Median of {len(ratios)} pairs, quartiles {low:.3f} to {high:.3f}, "
        f"range {ratios.min():.3f} to {ratios.max():.3f}; median {what} "
        f"{ours:.1f}{symbol} and {theirs:.1f}{symbol}."
    )
