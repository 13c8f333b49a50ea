"""Another program's config.json: every field is read by name, and one that nobody read is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from abbie_lens.errors import CheckpointError

REQUIRED: Any = object()
"""In the place of a default: the field must be there."""

INERT = frozenset(
    (
        "architectures", "auto_map", "model_type", "transformers_version", "torch_dtype", "dtype",
        "tokenizer_class", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id",
        "sep_token_id", "decoder_start_token_id", "id2label", "label2id", "problem_type",
        "finetuning_task", "task_specific_params", "is_encoder_decoder", "is_decoder", "return_dict",
        "use_return_dict", "output_attentions", "output_hidden_states", "use_cache",
        "gradient_checkpointing", "initializer_range", "attention_dropout", "hidden_dropout",
        "classifier_dropout", "chunk_size_feed_forward", "max_window_layers", "pretraining_tp", "name",
        "do_sample", "temperature", "top_k", "top_p", "max_length", "min_length", "max_new_tokens",
        "repetition_penalty", "num_beams",
    )
)  # fmt: skip
"""Fields that no format's mathematics depends on."""


class Fields:
    """The fields of one JSON object, and which of them were read.

    A null counts as absent. Errors: CheckpointError naming the file, the field and what is allowed.
    """

    def __init__(self, plain: Mapping[str, Any], where: str) -> None:
        self._plain, self.where = plain, where
        self._read: set[str] = set()
        self._parts: list[Fields] = []

    def value(self, name: str, default: Any = REQUIRED) -> Any:
        """Whatever stands there."""
        self._read.add(name)
        value = self._plain.get(name)
        if value is not None:
            return value
        if default is REQUIRED:
            raise CheckpointError(f"{self.where}: field {name!r} is missing.")
        return default

    def integer(self, name: str, default: Any = REQUIRED, least: int = 1) -> Any:
        """An integer of at least `least`."""
        value = self.value(name, default)
        if value is not default and (type(value) is not int or value < least):
            self.refuse(name, f"expected an integer >= {least}")
        return value

    def number(self, name: str, default: Any = REQUIRED) -> Any:
        """A float."""
        value = self.value(name, default)
        if value is not default and type(value) not in (int, float):
            self.refuse(name, "expected a number")
        return value if value is default else float(value)

    def flag(self, name: str, default: Any = REQUIRED) -> Any:
        """True or false."""
        value = self.value(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "expected true or false")
        return value

    def items(self, name: str, default: Any = REQUIRED) -> Sequence[Any]:
        """A list."""
        value = self.value(name, default)
        if not isinstance(value, list | tuple):
            self.refuse(name, "expected a list")
        return value

    def part(self, name: str) -> Fields:
        """The object that stands there, read like this one; empty if absent."""
        value = self.value(name, {})
        if not isinstance(value, Mapping):
            self.refuse(name, "expected an object")
        self._parts.append(Fields(value, f"{self.where}, {name}"))
        return self._parts[-1]

    def choice(self, name: str, allowed: Mapping[str, Any], default: Any = REQUIRED) -> Any:
        """What `allowed` makes of the text that stands there."""
        value = self.value(name, default)
        if not isinstance(value, str) or value not in allowed:
            self.refuse(name, f"supported are {', '.join(allowed)}")
        return allowed[value]

    def only(self, name: str, *allowed: Any) -> None:
        """One of these values, or absent."""
        value = self.value(name, allowed[0])
        if not any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed):
            self.refuse(name, f"supported is {' or '.join(map(repr, allowed))} alone")

    def agreeing(self, *names: str) -> Any:
        """The value of one field with several names, of which those that are there must agree."""
        there = [name for name in names if self.value(name, None) is not None]
        if not there:
            return self.value(names[0])
        for name in there[1:]:
            if self._plain[name] != self._plain[there[0]]:
                self.refuse(name, f"contradicts {there[0]}={self._plain[there[0]]!r}")
        return self._plain[there[0]]

    def ignore(self, *names: str) -> None:
        """These fields say nothing that counts here."""
        self._read.update(names)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise CheckpointError for the value of this field."""
        raise CheckpointError(f"{self.where}: {name}={self._plain.get(name)!r}: {why}.")

    def close(self, format_name: str) -> None:
        """Errors: CheckpointError for a field that nobody read, unless its value says that it is off."""
        for part in self._parts:
            part.close(format_name)
        for name in self._plain.keys() - self._read - INERT:
            value = self._plain[name]
            off = value is None or value is False or (isinstance(value, list | dict) and not value)
            if not off and not name.startswith("_"):
                self.refuse(
                    name,
                    f"a field that the format {format_name} is not known to have, so it may change what "
                    "the model computes; remove it from the file if it does not",
                )
