"""Maps of parameters of tissue by the names of their fields, whatever the kind of tissue."""

import dataclasses

import numpy as np

from ganmrf.physics.tissue import FACTS

_STD = "_std"  # ends the name of a standard deviation


class ParameterMaps:
    """What `Maps` and `Refined` are: a parameter that they hold, or a standard deviation, is an attribute as well.

    ``maps.t1`` is ``maps.parameters["t1"]`` and ``refined.t1_std`` is ``refined.stds["t1"]``: None where there is none.
    They are also made, and changed by `dataclasses.replace`, by these names: ``Maps(t1=t1, t2=t2, ...)``; what is None
    is left out.
    """

    def __init__(self, **values):
        own = {field.name for field in dataclasses.fields(self)}
        named = {"parameters": {}, "stds": {}}
        for name, value in values.items():
            holder, field = _place(name)
            if name not in own and holder not in own:
                raise TypeError(f"{type(self).__name__} has no {name}")
            if name not in own:
                named[holder][field] = value
        if missing := own - values.keys() - named.keys():
            raise TypeError(f"{type(self).__name__} wants {', '.join(sorted(missing))}")
        for name in own:
            whole = values[name] if name not in named else values.get(name, {}) | named[name]
            if name in named:
                whole = {field: value for field, value in whole.items() if value is not None}
            object.__setattr__(self, name, whole)

    def __getattr__(self, name):
        holder, field = _place(name)
        if holder is None or holder not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return vars(self)[holder].get(field)

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the maps."""
        return self.m0.shape

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by one name, of which the class makes the same maps again: ``Maps(**maps.arrays())``."""
        flat = vars(self) | vars(self)["parameters"]
        flat |= {f"{field}{_STD}": std for field, std in flat.pop("stds", {}).items()}
        del flat["parameters"]
        return flat


def _place(name):
    """Which dictionary holds what an attribute names, and by what field; (None, the name) where none does."""
    if name in FACTS:
        return "parameters", name
    field = name.removesuffix(_STD)
    return ("stds", field) if name != field and field in FACTS else (None, name)
