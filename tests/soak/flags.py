"""Values of flags that no rule allows: of every flag of every command, those that its field refuses."""

import dataclasses
import functools
import importlib
import random
import re

from experiments.flags.jobs import job_modules
from tests.soak.bench import Bench, Job
from tests.soak.verdicts import fault_of, names

_WRONG = {
    "int": ("abc", "1.5", "nan", f"1{'0' * 30}", ""),
    "float": ("abc", "nan", "inf", ""),
    "bool": ("maybe",),
    "str": ("",),
}
# What is given for flags without a default: enough to come to the work, where no wrong value should come.
_GIVEN = {"input": "given.h5", "generator": "given.npz", "rr_ms": "850,910"}
_MISSING = dataclasses.MISSING


def case(bench: Bench, number: int, draw: random.Random):
    """The command and its disturbance, the folder where it ran, and its fault; None where there are no more cases."""
    del draw
    if number >= len(_cases()):
        return None
    name, job = _cases()[number]
    folder = bench.fresh()
    for given in ("given.h5", "given.npz"):
        (folder / given).touch()
    before = names(folder)
    outcome = bench.run(job, folder)
    fault = fault_of(outcome, left=names(folder) - before, result=folder, made=None, naming=name)
    return f"ganmrf {job.line}", folder, fault


@functools.cache
def _cases():
    """Flags, and commands that give them a wrong value, in an order that begins with some of all."""
    found = []
    for job in job_modules():
        fields = importlib.import_module(f"experiments.{job}").main.fields()
        given = [f"--{name}={_given(name, field)}" for name, field in fields.items() if field.default is _MISSING]
        words = " ".join([job, *given])
        found += [(name, Job(f"{words} --{name}={value}")) for name, field in fields.items() for value in _wrong(field)]
    random.Random(0).shuffle(found)
    return found


def _given(name, field):
    return _GIVEN.get(name, f"o{(field.metadata['suffixes'] or ('',))[0]}")


def _wrong(field):
    """Texts that a field refuses, by its type and its rules."""
    facts, (kind,) = field.metadata, set(re.findall("int|float|bool|str", str(field.type)))
    values = [value for value in _WRONG[kind] if value or field.default not in ((), "")]
    if facts["choices"] is not None:
        values.append("bogus")
    if facts["suffixes"] is not None:
        values.append("o.bogus")
    if facts["reads"]:
        values.append("nowhere/none.npz")
    if facts["at_least"] is not None:
        values.append(f"{facts['at_least'] - 1:g}")
    if facts["above"] is not None:
        values.append(f"{facts['above']:g}")
    return values
