"""Any result as numeric arrays plus strict JSON, and back: what bundles and exports store."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from abbie_lens.errors import InputError
from abbie_lens.info import ModelInfo
from probes.result import Result, result_class


def pack(result: Result) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, meta): arrays are bool, integer or float, keyed `field` or `field/sub/...`;
    meta is JSON without NaN. Raises TypeError for a field that neither can hold."""
    arrays: dict[str, np.ndarray] = {}
    meta = _pack_result(result, "", arrays)
    return arrays, meta


def unpack(arrays: dict[str, np.ndarray], meta: dict) -> Result:
    """Inverse of `pack`; sequences come back as tuples. InputError if an array is missing."""
    try:
        return _unpack_result(arrays, meta)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"these arrays and metadata are not a result of ours: {error}") from error


def _pack_result(result: Result, prefix: str, arrays: dict[str, np.ndarray]) -> dict:
    packed = {
        f.name: _pack_value(getattr(result, f.name), f"{prefix}{f.name}", arrays)
        for f in fields(result)
    }
    return {"class": type(result).__name__, "fields": packed}


def _pack_value(value: Any, key: str, arrays: dict[str, np.ndarray]) -> dict:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[key] = np.ascontiguousarray(value).reshape(value.shape)
        return {"kind": "array", "key": key}
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return {"kind": "strings", "value": value.tolist(), "shape": list(value.shape)}
    if isinstance(value, Result):
        return {"kind": "result", **_pack_result(value, f"{key}/", arrays)}
    if isinstance(value, dict) and any(isinstance(v, np.ndarray | Result) for v in value.values()):
        items = {k: _pack_value(v, f"{key}/{k}", arrays) for k, v in value.items()}
        return {"kind": "dict", "items": items}
    if isinstance(value, ModelInfo):
        return {"kind": "model", "value": _json(value.to_dict(), key)}
    return {"kind": "json", "value": _json(value, key)}


def _json(value: Any, key: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_json(item, key) for item in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {k: _json(item, key) for k, item in value.items()}
    raise TypeError(
        f"field {key}: a {type(value).__name__} can be stored neither as array nor JSON"
    )


def _unpack_result(arrays: dict[str, np.ndarray], meta: dict) -> Result:
    cls = result_class(meta["class"])
    values = {name: _unpack_value(arrays, packed) for name, packed in meta["fields"].items()}
    return cls(**values)


def _unpack_value(arrays: dict[str, np.ndarray], packed: dict) -> Any:
    kind = packed["kind"]
    if kind == "array":
        return arrays[packed["key"]]
    if kind == "strings":
        return np.array(packed["value"], dtype=str).reshape(packed["shape"])
    if kind == "result":
        return _unpack_result(arrays, packed)
    if kind == "dict":
        return {k: _unpack_value(arrays, v) for k, v in packed["items"].items()}
    if kind == "model":
        return ModelInfo(**_plain(packed["value"]))
    if kind == "json":
        return _plain(packed["value"])
    raise InputError(f"unknown kind of field {kind!r}: written by a newer version?")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict) and set(value) == {"float"} and isinstance(value["float"], str):
        return float(value["float"])
    if isinstance(value, dict):
        return {k: _plain(item) for k, item in value.items()}
    return value
