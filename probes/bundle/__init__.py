"""Bundles: results of a run in one folder that reads back to the same objects, without the model.

manifest.json        schema version, models, prompts, settings, library versions, formulas, checksums
tables/NAME.parquet  tidy table of each result
arrays/NAME.safetensors   its arrays, exactly
states.safetensors   states, if given
report.html          the figures, self-contained
"""

from probes.bundle.manifest import SCHEMA_VERSION
from probes.bundle.reader import Bundle, load
from probes.bundle.writer import save

__all__ = ["SCHEMA_VERSION", "Bundle", "load", "save"]
