"""What the parser of options complains of, in at most three lines that name the option and what to type instead.

jsonargparse tells of a value all types that it might have had, and nests them: dozens of lines. What matters in them is
the innermost complaint of a class or a value, and where it stands.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pkgutil import resolve_name
from typing import Any, NamedTuple, get_args, get_type_hints

from simclr_lightning.errors import InputError

_KEY = re.compile(r'Parser key "(.+)":')
_CLASS = re.compile(r"Problem with given class_path '(.+)':")
_OPTION = re.compile(r"Option '(.+)' is not accepted")
_GOT = re.compile(r"Expected an? (.+)\. Got value:\s?(.*)")
_TYPES = re.compile(r"Subtypes: \[(.*)\]")
_VALUE = re.compile(r"Given value: (.*)")
_NO_VALUE = re.compile(r"argument (-\S+): expected one argument")
_UNKNOWN = re.compile(r"unrecognized arguments: (.+)|Subcommand '\w+' does not accept option '(.+)'", re.DOTALL)
_PLAIN = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "PositiveInt": "a positive integer",
}


class Complaint(NamedTuple):
    """The innermost part of a message.

    Attributes:
        option: that it is about, with dots and without dashes.
        owners: classes that the option is of, import paths from the outermost to the innermost.
        expected: types, as Python prints them; "" where the option itself is unknown.
        value: as it was given.
        said: in other words than these, otherwise "".

    Example:
        >>> message = ['Parser key "batch_size":', "  Expected a <class 'int'>. Got value: many"]
        >>> Complaint.of(chr(10).join(message))
        Complaint(option='batch_size', owners=[], expected="<class 'int'>", value='many', said='')
    """

    option: str
    owners: list[str]
    expected: str
    value: str
    said: str

    @classmethod
    def of(cls, message: str) -> Complaint:
        """Find it: down from the first key, into the first class that something is wrong with."""
        keys: list[str] = []
        owners: list[str] = []
        types = ""
        lines = message.splitlines()
        place = 0
        while place < len(lines):
            text = lines[place].strip().removeprefix("- ")
            if found := _KEY.fullmatch(text):
                keys.append(found[1])
            elif found := _CLASS.fullmatch(text):
                owners.append(found[1])
            elif found := _OPTION.fullmatch(text):
                return cls(".".join([*keys, found[1]]), owners, "", "", "")
            elif found := _GOT.fullmatch(text):
                return cls(".".join(keys), owners, found[1], found[2], "")
            elif found := _TYPES.fullmatch(text):
                types = found[1]
            elif text == "Errors:":
                inner = _first_class(lines, place)
                if inner is None:
                    value = next((found[1] for line in lines[place:] if (found := _VALUE.fullmatch(line.strip()))), "")
                    return cls(".".join(keys), owners, types, value, "")
                place = inner - 1
            elif text and not text.startswith(("Does not validate", "Expected a path but")):
                return cls(".".join(keys), owners, "", "", text)
            place += 1
        return cls(".".join(keys), owners, types, "", " ".join(message.split()))


def option_error(
    message: str, command: str, options: Iterable[str], *, positional: bool = False, words: Sequence[str] = ()
) -> InputError:
    """The error to raise in the place of the parser's.

    Args:
        message: of the parser.
        command: that it belongs to, such as fit.
        options: that the command has, without dashes.
        positional: whether those that are required are typed without their names.
        words: that were typed.

    Example:
        >>> option_error("unrecognized arguments: --trainer.max_epoch 3", "fit", ["trainer.max_epochs"])
        InputError('There is no option --trainer.max_epoch: did you mean --trainer.max_epochs? `simclr fit --help` \
lists all.')
    """
    if found := _UNKNOWN.fullmatch(message):
        return _unknown(found[1] or f"--{found[2]}", command, list(options), words)
    if message.startswith("the following arguments are required: "):
        names = [name.upper() if positional else f"--{name}" for name in message.partition(": ")[2].split(", ")]
        return InputError(
            f"`simclr {command}` needs {' and '.join(names)}: `simclr {command} --help` explains what that is."
        )
    if found := _NO_VALUE.fullmatch(message):
        return InputError(f"{found[1]} needs a value. `simclr {command} --help` explains it.")
    if not _KEY.match(message):
        return InputError(" ".join(message.split()))
    return _of_complaint(Complaint.of(message), command)


def _of_complaint(found: Complaint, command: str) -> InputError:
    help_ = _help(found, command)
    if found.said:
        name = found.owners[-1].rpartition(".")[2] if found.owners else ""
        meant = did_you_mean(name, _neighbours(found.owners[-1]) if found.owners else [])
        return InputError(f"--{found.option}: {found.said.rstrip('.')}{meant or '.'}{help_}")
    if not found.expected:
        option = found.option.rpartition(".")[2]
        above = found.option.removesuffix(option)
        owner = found.owners[-1]
        meant = did_you_mean(option, _options_of(owner), f"--{above}")
        return InputError(f"{owner.rpartition('.')[2]} has no option --{found.option}{meant or '.'}{help_}")
    bases = [base for base in map(_class, re.findall(r"<class '([\w.]+)'>", found.expected)) if base is not None]
    if bases and re.fullmatch(r"[\w.]+", found.value):
        known = {name for base in bases for name in _subclasses(base)}
        meant = did_you_mean(found.value.rpartition(".")[2], known)
        bases_told = " or ".join(sorted({base.__name__ for base in bases}))
        return InputError(
            f"--{found.option} is {found.value!r}, and no {bases_told} of this name is known{meant or '.'} "
            f"One of your own is named by its import path: --{found.option} my_module.{found.value.rpartition('.')[2]}"
        )
    return InputError(f"--{found.option} is {found.value!r}: expected {in_words(found.expected)}.{help_}")


def _first_class(lines: list[str], place: int) -> int | None:
    """Number of the line of the first class that the errors listed below a line are about."""
    depth = len(lines[place]) - len(lines[place].lstrip()) + 2
    for number in range(place + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) < depth:
            return None
        if line.startswith(" " * depth + "- ") and _CLASS.fullmatch(line.strip().removeprefix("- ")):
            return number
    return None


def _unknown(typed: str, command: str, options: Sequence[str], words: Sequence[str]) -> InputError:
    first, _, value = typed.partition(" ")
    if not first.startswith("-"):
        before = next((before for before, word in pairwise(words) if word == first), "")
        behind = f" behind {before}" if before.startswith("-") else ""
        return InputError(
            f"{first!r}{behind} belongs to no option: options begin with --, and a value with spaces stands in quotes. "
            f"`simclr {command} --help` lists all."
        )
    option = first.lstrip("-").partition("=")[0]
    if option in options:  # one of those that are typed by their places
        return InputError(
            f"There is no option {' '.join([first, value]).rstrip()}: {option} is typed without a name, "
            f"`simclr {command} {option.upper()}`. `simclr {command} --help` lists all."
        )
    meant = did_you_mean(option, options, "--") or "."
    return InputError(f"There is no option --{option}{meant} `simclr {command} --help` lists all.")


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A question after the names that are spelled alike, or whose last part is; "" if there are none.

    Example:
        >>> did_you_mean("temprature", ["loss.temperature", "optimizer"], "--model.")
        ': did you mean --model.loss.temperature?'
    """
    known = list(known)
    small = {option.lower(): option for option in known}
    alike = [small[option] for option in difflib.get_close_matches(name.lower(), small, n=2, cutoff=0.7)]
    last = {option.rpartition(".")[2].lower(): option for option in reversed(known)}
    alike = alike or [last[end] for end in difflib.get_close_matches(name.lower(), last, n=2, cutoff=0.75)]
    return f": did you mean {' or '.join(prefix + option for option in alike)}?" if alike else ""


def in_words(types: str) -> str:
    """Types as people call them.

    Example:
        >>> in_words("<class 'int'>, <class 'NoneType'>")
        'an integer or null'
        >>> in_words("tuple[float, float], <class 'NoneType'>")
        'tuple[float, float] or null'
        >>> in_words("typing.Literal['lars', 'sgd']")
        'lars or sgd'
    """
    words: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])+", types):
        plain = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", part.strip())
        if literal := re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", plain):
            words += [choice.strip().strip("'") for choice in literal[1].split(",")]
        else:
            words.append(_PLAIN.get(plain, re.sub(r"\b(?:\w+\.)+(\w)", r"\1", plain)))
    words = list(dict.fromkeys(words))
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _help(found: Complaint, command: str) -> str:
    """Where the options of the innermost class are explained that has a help of its own."""
    for owner in reversed(found.owners):
        cls = _class(owner)
        if cls is None or dataclasses.is_dataclass(cls):
            continue
        depth = len(found.owners) - 1 - found.owners.index(owner)
        key = ".".join(found.option.split(".")[: -1 - depth]) if depth or "." in found.option else found.option
        name = owner.rpartition(".")[2] if owner.startswith(("simclr_lightning.", "lightning.")) else owner
        return f" `simclr {command} --{key}.help {name}` explains its options."
    return f" `simclr {command} --help` explains it."


def _class(path: str) -> type[Any] | None:
    """A class that is imported already: nothing is imported because of a typing error."""
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) and found.__module__ != "builtins" else None


def _subclasses(cls: type[Any]) -> Iterator[str]:
    for other in cls.__subclasses__():
        if not other.__name__.startswith("_"):
            yield other.__name__
        yield from _subclasses(other)


def _neighbours(path: str) -> list[str]:
    """Public names of the module that a class was looked for in."""
    try:
        return [name for name in dir(resolve_name(path.rpartition(".")[0])) if name[0].isupper()]
    except (ImportError, AttributeError, ValueError):
        return []


def _options_of(path: str, *, deeper: bool = True) -> list[str]:
    """Arguments of a class, and those of the classes of this package that its arguments are objects of."""
    cls = _class(path)
    if cls is None:
        return []
    names = [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs")]
    if not deeper:
        return names
    try:
        hints = get_type_hints(cls.__init__)
    except (NameError, TypeError):
        return names
    for name in list(names):
        for kind in (hints.get(name), *get_args(hints.get(name))):
            if isinstance(kind, type) and kind.__module__.startswith("simclr_lightning"):
                known = [kind, *kind.__subclasses__()]
                inner = [
                    option for one in known for option in _options_of(f"{one.__module__}.{one.__name__}", deeper=False)
                ]
                names += [f"{name}.{option}" for option in dict.fromkeys(inner)]
    return names
