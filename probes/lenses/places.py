"""Where tuned and Jacobian lenses are: beside a bundled model, or in the user's data folder, by weight hash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from abbie_lens import paths, zoo
from abbie_lens.errors import AbbieLensError, InputError
from abbie_lens.files.plain_json import read_object
from probes.lenses.fitted import ABOUT, FittedLens
from probes.lenses.identity import weights_known
from probes.lenses.rows import Blocks

FOLDER = "lenses"
MADE = ("tuned", "jacobian")
_RICHNESS = {False: 0, True: 1, "all": 2}


def home(model: Any, kind: str, n_iters: int, blocks: Blocks) -> Path:
    """Folder in the user's data for a lens of this model."""
    name = f"{kind}-r{n_iters}" + {False: "", True: "-blocks", "all": "-all"}[blocks]
    return paths.user_data() / FOLDER / model.info().weight_hash[:16] / name


def find(model: Any, kind: str, n_iters: int, blocks: Blocks = False) -> FittedLens | None:
    """The shallowest lens of this model that serves this depth and these blocks; None if there is none.

    Folders that cannot be read are passed over.
    """
    fitting = []
    for folder in _folders(model):
        try:
            found = FittedLens.load(folder)
            if found.kind == kind and _RICHNESS[found.blocks] >= _RICHNESS[blocks]:
                fitting.append(found.check(model, n_iters))
        except AbbieLensError:
            continue
    return min(fitting, key=lambda lens: lens.n_iters, default=None)


def resolve(
    model: Any,
    kind: str,
    given: FittedLens | str | os.PathLike[str] | None,
    n_iters: int,
    blocks: Blocks,
) -> FittedLens | None:
    """The lens that `kind` needs; None for kinds without matrices. Errors: InputError if there is none, or it is another's."""
    if kind not in MADE:
        if given is not None:
            raise InputError(
                f"fitted: a {kind} lens has no matrices; pass kind='tuned' or 'jacobian'."
            )
        return None
    if given is None:
        if (found := find(model, kind, n_iters, blocks)) is None:
            raise InputError(
                f"kind={kind!r}: no {kind} lens of {model.info().name!r} with n_iters={n_iters}, blocks={blocks} is"
                f" known; make one with `abbie-lens lens {kind}`, or pass fitted=."
            )
        return found.to(model.device)
    made = given if isinstance(given, FittedLens) else FittedLens.load(given)
    if made.kind != kind:
        raise InputError(f"fitted: this is a {made.kind} lens, kind={kind!r} was asked for.")
    return made.check(model, n_iters).to(model.device)


def _folders(model: Any) -> Iterator[Path]:
    """Every folder that may hold a lens of this model."""
    name = model.info().name
    places = [zoo.path(name) / FOLDER] if name in zoo.names() else []
    for place in places:
        if place.is_dir():
            yield from sorted(p.parent for p in place.glob(f"*/{ABOUT}"))
    # Not only below its own hash: the same weights in another precision have another.
    own = model.info().weight_hash
    for about in sorted((paths.user_data() / FOLDER).glob(f"*/*/{ABOUT}")):
        with suppress(AbbieLensError, KeyError, TypeError):
            if own in weights_known(read_object(about)["model"]):
                yield about.parent
