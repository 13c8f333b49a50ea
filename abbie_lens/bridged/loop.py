"""Loop: which blocks of a plain decoder are iterated, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass

from abbie_lens.bridged.rules import Anchored, Damped
from abbie_lens.errors import ConfigError, nearest
from abbie_lens.loops import AbbieC, AbbieD, LoopFamily

RULES: dict[str, type[LoopFamily]] = {
    "repeat": AbbieC,
    "abbie-d": AbbieD,
    "damped": Damped,
    "anchored": Anchored,
}


@dataclass(frozen=True)
class Loop:
    """Blocks `start` to `stop - 1` are the Body; those before are the Head, those after the Tail.

    Errors: ConfigError for an empty window, a rule that is none of ours, or one that is not plain at r = 1.
    """

    start: int
    stop: int
    rule: str | LoopFamily = "repeat"
    """`repeat` (AbbIE-C), `abbie-d` (residual `between`), `damped`, `anchored`, or one of these with its settings."""
    n_iters: int = 1
    """Depth of a run that names none; 1 is the plain model."""

    def __post_init__(self) -> None:
        for name, least in (("start", 0), ("stop", 1), ("n_iters", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"loop {name}={value!r}: expected an integer >= {least}.")
        if self.stop <= self.start:
            raise ConfigError(
                f"loop stop={self.stop}: expected more than start={self.start}; blocks start to stop - 1 are looped."
            )
        known = isinstance(self.rule, str) and self.rule in RULES
        if not (known or type(self.rule) in RULES.values()):
            raise ConfigError(
                f"loop rule={self.rule!r}: expected one of {', '.join(RULES)}.{nearest(str(self.rule), RULES)}"
            )
        if isinstance(self.rule, AbbieD) and self.rule.residual == "literal":
            raise ConfigError(
                "loop rule: abbie-d with residual='literal' is not the plain model at r = 1; "
                "expected 'between' or 'skip_first'."
            )

    @property
    def family(self) -> LoopFamily:
        """The rule with its settings."""
        return RULES[self.rule]() if isinstance(self.rule, str) else self.rule

    def fit(self, n_blocks: int) -> None:
        """Errors: ConfigError where the model has fewer blocks than the window needs."""
        if self.stop > n_blocks:
            raise ConfigError(
                f"loop stop={self.stop}: the model has {n_blocks} blocks; expected at most {n_blocks}."
            )
