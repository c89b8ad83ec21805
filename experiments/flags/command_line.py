"""A command: its flags are the fields of a dataclass; bad input is one clear line on stderr and exit code 2."""

import copy
import dataclasses
import difflib
import functools
import importlib
import inspect
import os
import pathlib
import re
import sys
import textwrap
import types

from absl import flags

from experiments.flags.ending import ending
from experiments.flags.jobs import job_modules, show
from ganmrf.files import check_folder, check_output, check_readable, keeping
from ganmrf.parallel import keep_compiled_programs
from ganmrf.runs.workdir import stored_settings
from ganmrf.settings import flat, is_read, kind_of

_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
_FOLDERS = "workdir", "output"  # flags of a folder, where they do not name a file
_METAVAR = {int: "INT", float: "NUMBER", str: "TEXT"}


def command(config: type):
    """A decorator that makes a `Command` of ``main(config)``, or of ``main(config, given)``.

    The fields of the dataclass ``config`` and of its groups are the flags; ``given`` are the names of those given.
    """
    return lambda function: Command(function, config)


class Command:
    """A function of a configuration that can also be run from the command line."""

    def __init__(self, function, config: type):
        self.config = config
        self._function = function
        self._takes_given = len(inspect.signature(function).parameters) > 1

    def __call__(self, *arguments):
        return self._function(*arguments)

    @property
    def name(self) -> str:
        """How the job is called."""
        module = inspect.getmodule(self._function)
        if module.__spec__ is not None:
            return module.__spec__.name.removeprefix("experiments.")
        return pathlib.Path(module.__file__).stem

    def fields(self) -> dict[str, dataclasses.Field]:
        """Flag -> the field that it sets."""
        return {field.name: field for _, _, fields in _groups(self.config) for field in fields}

    def run(self, arguments: list[str] | None = None):
        """Parses the arguments, by default those of the process, and calls the function.

        A `ValueError` or `OSError`, from the flags or from the work, becomes one line on stderr and exit code 2.
        Compiled programs are kept in the user's cache folder, so that the next run with the same shapes starts at once.
        """
        arguments = sys.argv[1:] if arguments is None else list(map(str, arguments))
        if any(argument.lstrip("-") in ("help", "h", "helpshort", "helpfull") for argument in arguments):
            show(self.help())
            return
        with ending(self.fields()):
            values = self._parse(arguments)
            config = _read(self.config, values)
            given = frozenset(name for name in values if values[name].present)
            self._check_given(config, given)
            with keeping(self._inputs(values)):
                self._check_outputs(values)
                keep_compiled_programs()
                self._function(config, given) if self._takes_given else self._function(config)

    def help(self) -> str:
        """What the job does, and its own flags with their units and defaults."""
        lines = [inspect.getdoc(inspect.getmodule(self._function)).strip()]
        for cls, _, fields in _groups(self.config):
            summary = inspect.getdoc(cls).splitlines()[0].rstrip(".")
            if fields:
                lines += ["", f"{summary}:", *(line for field in fields for line in _described(cls, field))]
        return "\n".join(lines)

    def _parse(self, arguments):
        values = flags.FlagValues()
        for cls, presets, fields in _groups(self.config):
            for field in fields:
                _define(values, cls, field, optional=presets is not None)
        for word, after in zip(arguments, [*arguments[1:], ""], strict=False):  # absl would read a device for ever
            name, _, path = word.lstrip("-").partition("=")
            if name == "flagfile":
                _of_flag("--flagfile", check_readable, path or after)
        try:
            rest = values([self.name, *arguments], known_only=False)
        except flags.UnrecognizedFlagError as error:
            raise ValueError(self._unknown(error.flagname)) from None
        except flags.IllegalFlagValueError as error:  # of Python's own conversions
            said = str(error).removeprefix("flag --")
            found = re.match(
                r"(\w+)=(.*): (invalid literal for int|could not convert string to float)", said, re.DOTALL
            )
            if not found:
                raise ValueError(said) from None
            kind = "whole " * found[3].startswith("invalid")
            raise ValueError(f"{found[1]} must be a {kind}number; got {found[2]}") from None
        except flags.Error as error:
            raise ValueError(str(error).removeprefix("flag ")) from None
        if len(rest) > 1:
            raise ValueError(f"unexpected argument {rest[1]!r}: every input is a --flag=value")
        return values

    def _unknown(self, name):
        near = difflib.get_close_matches(name, self.fields(), n=3)
        jobs = [job for job in job_modules() if name in _flags_of(job)]
        other = f"; it is a flag of {', '.join(jobs)}" if jobs else ""
        nearest = f"; did you mean {', '.join(f'--{each}' for each in near)}?" if near else ""
        return f"--{name} is not a flag of {self.name}{other}{nearest}"

    def _inputs(self, values):
        """The files that flags name to be read; refuses those that cannot be."""
        found = []
        for name, field in self.fields().items():
            names = field.metadata["choices"] or ()
            if field.metadata["reads"] and (paths := values[name].value) and paths not in names:
                for path in paths if isinstance(paths, list) else [paths]:
                    if not (_is_store(path) or (field.metadata["folder"] and os.path.isdir(path))):
                        label = f"{name} must be {', '.join(names)} or a file" if names else name
                        _of_flag(label, check_readable, path)
                    found.append(path)
        return found

    def _check_given(self, config, given):
        """Refuses flags that others make useless, of this call or, where a run is gone on with, of its folder."""
        fields, values = self.fields(), flat(config)
        for folder in [values[name] for name in _FOLDERS if values.get(name)]:
            stored = stored_settings(folder)
            values |= {name: stored[name] for name in (stored.keys() & values.keys()) - given}
        for name in sorted(given & fields.keys()):
            facts = fields[name].metadata
            if replaced := [f"--{other}" for other in facts["instead_of"] if other in given]:
                raise ValueError(f"{name} stands in place of {', '.join(replaced)}: give one of them")
            rules = [rule for rule in facts["goes_with"] if rule.partition("=")[0] in fields]
            if not is_read(rules, values):
                rules = " or ".join(f"--{rule}" for rule in rules)
                raise ValueError(f"{name} would change nothing: it goes with {rules}")

    def _check_outputs(self, values):
        for name, field in self.fields().items():
            if (path := values[name].value) and field.metadata["suffixes"]:
                _of_flag(name, functools.partial(check_output, folder=_is_store(path)), path)
            elif path and name in _FOLDERS:
                _of_flag(name, check_folder, path)


def _is_store(path):
    """Whether a dictionary of this name is a folder."""
    return path.rstrip("/").lower().endswith(".zarr")


def _of_flag(name, check, path):
    try:
        check(path)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _flags_of(job):
    return importlib.import_module(f"experiments.{job}").main.fields()


_NOTHING = types.MappingProxyType({})


def _groups(cls, presets=None, without=frozenset(), defaults=_NOTHING, choices=_NOTHING, meanings=_NOTHING):
    """(class, presets, fields that are flags, with their defaults) of a configuration and, after it, of its groups."""
    fields, groups = [], []
    for field in dataclasses.fields(cls):
        kind, _ = kind_of(cls, field.name)
        if dataclasses.is_dataclass(kind):
            facts = field.metadata
            # An outer class has the last word on what a field of its groups means to it.
            inherited = without | facts["without"], defaults | facts["defaults"], choices | facts["choices"]
            groups += _groups(kind, facts["presets"], *inherited, facts["meanings"] | meanings)
        elif field.name not in without:
            field = copy.copy(field)
            field.default = defaults.get(field.name, field.default)
            for fact, by_name in (("choices", choices), ("meaning", meanings)):
                if field.name in by_name:
                    field.metadata = field.metadata | {fact: by_name[field.name]}
            fields.append(field)
    return [(cls, presets, fields), *groups]


def _define(values, cls, field, *, optional):
    kind, several = kind_of(cls, field.name)
    facts = field.metadata
    default = None if optional or field.default is dataclasses.MISSING else field.default
    if several and facts["apart"]:
        flags.DEFINE_multi_string(field.name, default, facts["meaning"], flag_values=values)
    elif several:
        default = default and [f"{each:g}" if isinstance(each, float) else str(each) for each in default]
        flags.DEFINE_list(field.name, default, facts["meaning"], flag_values=values)
    elif facts["choices"] is not None and not facts["reads"]:
        flags.DEFINE_enum(field.name, default, facts["choices"], facts["meaning"], flag_values=values)
    else:
        _DEFINE[kind](field.name, default, facts["meaning"], flag_values=values)


def _read(cls, values, base=None, without=frozenset()):
    """The configuration that the flags give; of ``base``, where there is one, those fields that were given differ.

    Flags with the names of fields ``without`` flags are of an outer class.
    """
    found = {}
    for field in dataclasses.fields(cls):
        kind, several = kind_of(cls, field.name)
        if dataclasses.is_dataclass(kind):
            presets, inherited = field.metadata["presets"], without | field.metadata["without"]
            found[field.name] = _read(kind, values, presets and presets[found[field.metadata["by"]]], inherited)
            continue
        if field.name not in values or field.name in without:  # no flag of this command
            continue
        value, others = values[field.name].value, field.metadata["yields_to"]
        if not values[field.name].present and any(other in values and values[other].present for other in others):
            value = field.default
        if value is None and base is None and field.default is dataclasses.MISSING:
            raise ValueError(f"{field.name} is required: {field.metadata['meaning']}")
        if value is not None or base is None:
            found[field.name] = _entries(field, kind, value) if several and value is not None else value
    return cls(**found) if base is None else dataclasses.replace(base, **found)


def _entries(field, kind, texts):
    try:
        entries = [kind(float(text)) if kind is int and float(text).is_integer() else kind(text) for text in texts]
    except ValueError:
        raise ValueError(f"{field.name} must be numbers separated by commas; got {','.join(texts)}") from None
    if not entries and field.default != ():
        raise ValueError(f"{field.name} must hold one value at least; got none")
    return tuple(entries) if field.metadata["repeats"] else tuple(dict.fromkeys(entries))


def _described(cls, field):
    """Lines of ``--help`` for a flag: its values, its meaning and its default."""
    kind, several = kind_of(cls, field.name)
    facts = field.metadata
    if kind is bool:
        title = f"--[no]{field.name}"
    else:
        values = [*map(str, facts["choices"] or ())]
        if facts["reads"] or not values:
            values.append(_METAVAR[kind])
        title = f"--{field.name}={'|'.join(values)}{',...' if several and not facts['apart'] else ''}"
    meaning = facts["meaning"]
    if facts["apart"]:
        meaning += "; may be repeated"
    if field.default is dataclasses.MISSING:
        meaning += " (required)"
    elif kind is bool:
        meaning += f" (default: {'yes' if field.default else 'no'})"
    elif field.default not in (None, (), ""):
        entries = field.default if several else (field.default,)
        meaning += f" (default: {', '.join(f'{each:g}' if kind is float else str(each) for each in entries)})"
    width = min(max(os.get_terminal_size().columns if sys.stdout.isatty() else 100, 60), 120)
    indent, short = " " * 30, len(title) < 27
    if not short:
        yield f"  {title}"
    head = f"  {title:<27s} " if short else indent
    yield from textwrap.wrap(meaning, width, initial_indent=head, subsequent_indent=indent)
