"""Lenses: what the model would predict if it stopped here, by its own Tail, without it, or by learnt matrices.

run.py           `lens`, one function for every kind          result.py      what it returns
rows.py          what is read, iteration by iteration and block by block
tuned.py         matrices learnt to give the final prediction (`train_tuned`)
jacobian.py      mean effects on what the final norm reads (`fit_jacobian`)
fitted.py        either of them as files                       places.py      where they are looked for
"""

from probes.lenses.fitted import FittedLens
from probes.lenses.jacobian import JacobianConfig, JacobianLens, fit_jacobian
from probes.lenses.places import find
from probes.lenses.result import KINDS, Lens
from probes.lenses.run import lens
from probes.lenses.tuned import TunedConfig, train_tuned
from probes.lenses.tuned_lens import TunedLens

__all__ = [
    "KINDS",
    "FittedLens",
    "JacobianConfig",
    "JacobianLens",
    "Lens",
    "TunedConfig",
    "TunedLens",
    "find",
    "fit_jacobian",
    "lens",
    "train_tuned",
]
