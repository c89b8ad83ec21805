"""Configurations as frozen dataclasses: a field says its meaning and its rule once, for Python, files and flags."""

import contextlib
import dataclasses
import functools
import json
import math
import operator
import re
import types
import typing
from collections.abc import Collection, Mapping


def setting(
    default=dataclasses.MISSING,
    meaning: str = "",
    *,
    choices=None,
    suffixes: tuple[str, ...] | None = None,
    reads: bool = False,
    folder: bool = False,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    kept: bool = True,
    repeats: bool = False,
    apart: bool = False,
    goes_with: tuple[str, ...] = (),
    instead_of: tuple[str, ...] = (),
    yields_to: tuple[str, ...] = (),
):
    """A field of a configuration, with what everybody who asks for its value needs to know.

    Args:
      default: its default; none makes it required.
      meaning: one phrase with its unit, for ``--help`` and for readers.
      choices: the values that it may have; of a tuple, that its entries may have; of what ``reads``, names that are no
        files.
      suffixes: of a file to write, the ends that its name may have, in lower case.
      reads: whether it names a file, or a ``.zarr`` folder, that is read.
      folder: whether what is read may be any folder.
      at_least: least value, or least entry of a tuple.
      above: value that it must exceed, likewise.
      at_most: largest value, likewise.
      below: value that it must not reach, likewise.
      kept: whether it belongs to a run, and so to the ``config.json`` of its folder; folders and formats do not.
      repeats: of a tuple, whether a value may stand in it more than once.
      apart: of a tuple, whether each entry is given by a flag of its own, since entries hold commas.
      goes_with: fields, one of which must be in use where this one is given by a flag, or it would change nothing:
        ``name``, in use when it is not empty, 0 or None, or ``name=value|value``.
      instead_of: fields that are not read where this one is given.
      yields_to: fields that, where a flag gives one of them and none this one, leave it the default of its own class.

    Returns:
      The `dataclasses.Field`.
    """
    facts = {"meaning": meaning, "choices": choices, "suffixes": suffixes, "reads": reads, "folder": folder}
    facts |= {"at_least": at_least, "above": above, "at_most": at_most, "below": below, "kept": kept}
    facts |= {"repeats": repeats, "apart": apart, "goes_with": goes_with, "instead_of": instead_of}
    facts["yields_to"] = yields_to
    return dataclasses.field(default=default, metadata=facts)


def group(
    cls,
    *,
    presets: dict | None = None,
    by: str | None = None,
    without: tuple[str, ...] = (),
    defaults=frozenset(),
    choices: Mapping[str, tuple] = types.MappingProxyType({}),
    meanings: Mapping[str, str] = types.MappingProxyType({}),
):
    """A field that holds another configuration, of class ``cls``, whose fields are flags of their own.

    ``presets`` are None, or name -> configuration that the fields which are not given are taken from; the field ``by``,
    earlier in the outer class, chooses the preset. Fields of ``without``, also those of groups in it, are no flags,
    since the outer class does not read them. ``defaults`` are (name, value) pairs of fields, those of its groups among
    them, that have another default in the outer class; ``choices`` are those that it leaves of a field's own, by name;
    ``meanings`` stand in place of a field's own, where the outer class reads less of the field, or more.
    """
    metadata = {"presets": presets, "by": by, "without": frozenset(without), "kept": True}
    metadata |= {"defaults": dict(defaults), "choices": dict(choices), "meanings": dict(meanings)}
    return dataclasses.field(default_factory=lambda: _with_fields(cls(), dict(defaults)), metadata=metadata)


def _with_fields(config, changes):
    """A configuration with other values of some fields, those of groups among them."""
    found = {}
    for name, value in ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config)):
        if dataclasses.is_dataclass(value):
            found[name] = _with_fields(value, changes)
        elif name in changes:
            found[name] = changes[name]
    return dataclasses.replace(config, **found)


@typing.dataclass_transform(frozen_default=True, field_specifiers=(setting, group))
def configuration(cls: type) -> type:
    """Makes a class a frozen dataclass that checks its fields by their rules, before its own ``__post_init__``."""
    after = cls.__dict__.get("__post_init__")

    def check(self):
        check_settings(self)
        if after is not None:
            after(self)

    cls.__post_init__ = check
    return dataclasses.dataclass(frozen=True)(cls)


def check_settings(config):
    """Raises `ValueError` for the first field that breaks its type or rule; it names field, value and rule."""
    for field in dataclasses.fields(config):
        facts, value = field.metadata, getattr(config, field.name)
        if "meaning" not in facts or (value is None and _may_be_none(type(config), field.name)):
            continue
        kind, several = kind_of(type(config), field.name)
        values = value if isinstance(value, tuple) else (value,)
        shown = ",".join(map(str, values)) if isinstance(value, tuple) else value
        if isinstance(value, tuple) != several or not all(_is(kind, each) for each in values):
            one = {float: "finite number", int: "whole number", str: "text", bool: "True or False"}[kind]
            raise ValueError(f"{field.name} must be a {'tuple, each entry a ' * several}{one}; got {shown!r}")
        if value in ((), "") and value != field.default:
            raise ValueError(f"{field.name} must not be empty")
        chosen = facts["choices"] is not None and not facts["reads"]
        if chosen and any(each not in facts["choices"] for each in values):
            raise ValueError(f"{field.name} must be one of {', '.join(map(str, facts['choices']))}; got {shown}")
        if facts["suffixes"] is not None and not value.lower().endswith(facts["suffixes"]):
            raise ValueError(f"{field.name} must end in {' or '.join(facts['suffixes'])}; got {value}")
        for rule, holds in _BOUNDS.items():
            if facts[rule] is not None and not all(holds(each, facts[rule]) for each in values):
                raise ValueError(f"{field.name} must be {rule.replace('_', ' ')} {facts[rule]}; got {shown}")


_BOUNDS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


@contextlib.contextmanager
def naming_fields(**names: str):
    """Inside, errors say fields in place of the arguments that they are passed on as: ``argument="field"``."""
    try:
        yield
    except ValueError as error:
        arguments = rf"(?<!\w)(?:\w+\.)?({'|'.join(names)})(?!\w)"  # alone, or after the name of its object
        raise ValueError(re.sub(arguments, lambda found: names[found[1]], str(error))) from error


def _is(kind, value):
    """Whether a value is of a kind; numbers are finite, and whole ones fit 64 bits, as seeds and shapes must."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is kind and (kind is not int or abs(value) < 2**63)


@functools.cache
def _may_be_none(cls, name):
    return type(None) in typing.get_args(typing.get_type_hints(cls)[name])


@functools.cache
def kind_of(cls, name: str) -> tuple[type, bool]:
    """Type of a field, without ``| None``, and whether it is a tuple of that type."""
    hint = typing.get_type_hints(cls)[name]
    if isinstance(hint, types.UnionType):
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def to_plain(config) -> dict:
    """The fields that belong to a run, as JSON holds them: numbers, texts, lists, and dicts of groups."""
    return {
        field.name: to_plain(value) if dataclasses.is_dataclass(value) else json.loads(json.dumps(value))
        for field in dataclasses.fields(config)
        if field.metadata.get("kept", True)
        for value in [getattr(config, field.name)]
    }


def from_plain(config, plain: dict):
    """The configuration with the fields of `to_plain` in place of its own, checked (`check_settings`)."""
    changes = {}
    for name, value in plain.items():
        own = getattr(config, name)
        if dataclasses.is_dataclass(own):
            value = from_plain(own, value)
        changes[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **changes)


def is_read(rules: Collection[str], values: Mapping[str, object]) -> bool:
    """Whether fields have values, by name, with which a field of ``setting(goes_with=rules)`` changes anything.

    Rules on fields that have no value there, as a job has none of them, do not count.
    """
    rules = [rule for rule in rules if rule.partition("=")[0] in values]

    def in_use(name, equals, wanted):
        value = values.get(name)
        several = value if isinstance(value, tuple) else (value,)
        return bool(value) if not equals else not {str(each) for each in several}.isdisjoint(wanted.split("|"))

    return not rules or any(in_use(*rule.partition("=")) for rule in rules)


def flat(config) -> dict:
    """Every field by name, those of groups among them: as flags name them."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        found |= flat(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found
