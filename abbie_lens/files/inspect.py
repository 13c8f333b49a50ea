"""What a model is and what it needs, from its config and the headers of its weight files: no weight is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import InputError
from abbie_lens.files import hub
from abbie_lens.files.assemble import blueprint, check_shapes
from abbie_lens.files.device import resolve_dtype
from abbie_lens.files.layout import CONFIG, TOKENIZER, read_config, read_json
from abbie_lens.files.load import find
from abbie_lens.files.published import check_keys, is_published, plan
from abbie_lens.files.tokenizer import read_tokenizer
from abbie_lens.files.weights import stored_shapes, weight_files
from abbie_lens.hooks.memory import capture_bytes, site_shape
from abbie_lens.model import HookedLoopedTransformer

STATES = ("loop.hook_state", "loop.hook_readout")


@dataclass(frozen=True)
class Inspection:
    """A model seen from outside. Sizes in bytes; runs are one row of `n_ctx` tokens at depth `n_iters`."""

    name: str
    format: str
    """`abbie-lens`, or the published format."""
    cfg: LoopedConfig
    n_iters: int
    n_ctx: int
    n_params: int
    """Tied ones once."""
    weight_bytes: int
    """In the dtype that it would be loaded in."""
    file_bytes: int
    """Of the weight files."""
    states_bytes: int
    """h_0 … h_r and z_0 … z_r."""
    capture_bytes: int
    """Every site, every iteration."""
    gate: bool
    """Whether the loop has a learned gate."""
    tokenizer: int | None
    """Tokens that its tokenizer knows; None without one."""
    sites: tuple[tuple[str, int, tuple[int, ...]], ...]
    """Name, rows over the loop (0 outside it), shape of one row with batch 1."""

    @property
    def load_bytes(self) -> int:
        """What loading takes at its peak: the file's tensors and the model's."""
        return self.file_bytes + self.weight_bytes


def inspect(
    name_or_path: str | Path,
    *,
    n_iters: int | None = None,
    n_ctx: int | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Inspection:
    """What `load` would load: a bundled name, a folder, or a hub id, of which only config and headers are fetched.

    `n_iters` None: the trained depth; `n_ctx` None: the model's context. Errors: CheckpointError as `load` has them
    where weights and config disagree; InputError for a depth or length that the model does not have.
    """
    precision, name = resolve_dtype(dtype), str(name_or_path)
    there = hub.is_hub_id(name) and not Path(name).exists()
    folder = hub.fetch_small(name, revision, token) if there else find(name_or_path)
    if there:
        stored, file_bytes = hub.headers(name, revision, token)
    else:
        stored = {}
        files = weight_files(folder)
        for file in files:
            stored |= stored_shapes(file)
        file_bytes = sum(file.stat().st_size for file in files)
    if is_published(folder):
        it = plan(read_json(folder / CONFIG), stored, name, name)
        expected, aliases = blueprint(HookedLoopedTransformer, it.cfg)
        ours = {**expected, **{alias: expected[holder] for alias, holder in aliases.items()}}
        check_keys(it, ours, name)
        form, cfg = it.format.name, it.cfg
    else:
        form, cfg = "abbie-lens", read_config(folder)[0]
        expected, _ = blueprint(HookedLoopedTransformer, cfg)
        check_shapes({k: torch.empty(s, device="meta") for k, s in stored.items()}, expected, name)
    cfg = cfg if precision is None else cfg.replace(dtype=precision)
    with torch.device("meta"):
        model = HookedLoopedTransformer(cfg.replace(seed=None))
    depth, length = model.depth(n_iters), cfg.n_ctx if n_ctx is None else n_ctx
    if not 1 <= length <= cfg.n_ctx:
        raise InputError(f"n_ctx={length}: expected 1 to {cfg.n_ctx}, the model's context.")
    rows = {site: model.rows(site, depth) for site in model.hook_dict}
    size = lambda names: capture_bytes(  # noqa: E731
        cfg, [(n, max(rows[n], 1)) for n in names], 1, length, cfg.torch_dtype
    )
    n_params = sum(math.prod(shape) for shape in expected.values())
    known = (folder / TOKENIZER).is_file()
    tokenizer: Any = read_tokenizer(folder, cfg.d_vocab) if known else None
    return Inspection(
        name,
        form,
        cfg,
        depth,
        length,
        n_params,
        n_params * cfg.torch_dtype.itemsize,
        file_bytes,
        size(STATES),
        size(rows),
        cfg.loop.gated,
        None if tokenizer is None else len(tokenizer),
        tuple((site, n, site_shape(cfg, site, 1, length)) for site, n in rows.items()),
    )
