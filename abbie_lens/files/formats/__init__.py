"""Published formats of looped models, one file each; `recognise` says which one a checkpoint is in."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from abbie_lens.errors import CheckpointError
from abbie_lens.files.formats.format import Format
from abbie_lens.files.formats.hrm_text import HrmText
from abbie_lens.files.formats.huginn import HuginnFormat
from abbie_lens.files.formats.llama import LlamaFormat
from abbie_lens.files.formats.loopus import LoopusFormat
from abbie_lens.files.formats.ouro import OuroFormat
from abbie_lens.files.formats.parcae import ParcaeFormat
from abbie_lens.files.formats.pondering_pythia import PonderingPythia
from abbie_lens.files.formats.retrofit_llama import RetrofitLlama
from abbie_lens.files.formats.retrofit_olmo import RetrofitOlmo

FORMATS: tuple[Format, ...] = (
    HuginnFormat(),
    RetrofitLlama(),
    RetrofitOlmo(),
    OuroFormat(),
    HrmText(),
    ParcaeFormat(),
    PonderingPythia(),
    LoopusFormat(),
    LlamaFormat(),
)

__all__ = ["FORMATS", "Format", "candidates", "recognise"]


def candidates(plain: Mapping[str, Any]) -> list[Format]:
    """The formats that this config.json may be of; none for a model of another kind."""
    return [each for each in FORMATS if each.claims(plain)]


def recognise(plain: Mapping[str, Any], keys: Set[str], where: object) -> Format:
    """The format of a checkpoint, from its config.json and the names of its tensors.

    Errors: CheckpointError, with the reason for each format that the config names.
    """
    reasons: dict[str, list[str]] = {}
    for each in candidates(plain):
        reason = each.objection({each.spelt(key) for key in keys})
        if reason is None:
            return each
        reasons.setdefault(reason, []).append(each.name)
    said = "; ".join(f"{' and '.join(names)}: {reason}" for reason, names in reasons.items())
    known = ", ".join(each.name for each in FORMATS)
    raise CheckpointError(
        f"{where}: its keys are not those of a format that we read ({said or known})."
    )
