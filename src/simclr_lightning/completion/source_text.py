"""Arguments of functions and classes, and what they may be, read from their source: to import them takes seconds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_READ = ("simclr_lightning", "lightning")
_SWITCH = ("false", "true")


class Argument(NamedTuple):
    """An argument of a function or a class.

    Attributes:
        name: of it.
        choices: its values, as far as they are few and known.
        fields: of the dataclass that it is an object of.

    Example:
        >>> Argument("optimizer", ("lars", "sgd", "adamw"), ()).name
        'optimizer'
    """

    name: str
    choices: tuple[str, ...]
    fields: tuple[Argument, ...]


def arguments_of(module: str, name: str) -> list[Argument]:
    """Arguments of a function, a method, a class or a dataclass, without ``self`` and what takes all the rest.

    Args:
        module: in which it is, or which imports it.
        name: of it; of a method with its class, ``Trainer.fit``.

    Example:
        >>> found = {argument.name: argument for argument in arguments_of("simclr_lightning", "SimCLR")}
        >>> found["optimizer"].choices, "loss" in found
        (('lars', 'sgd', 'adamw'), True)
    """
    owner, _, method = name.partition(".")
    found = _definition(module, owner)
    if found is None:
        return []
    node, place = found
    if method and isinstance(node, ast.ClassDef):
        node = next((own for own in node.body if isinstance(own, ast.FunctionDef) and own.name == method), node)
    return list(_arguments(node, place))


def keys_of(module: str, name: str) -> list[str]:
    """Keys of a dictionary that a module has as a constant.

    Example:
        >>> keys_of("simclr_lightning.models.resnet", "RESNETS")[:2]
        ['resnet8', 'resnet10']
    """
    found = _definition(module, name)
    value = getattr(found[0], "value", None) if found else None
    keys = value.keys if isinstance(value, ast.Dict) else []
    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]


def public_classes(module: str) -> list[str]:
    """Classes in the ``__all__`` of a package.

    Example:
        >>> "NTXentLoss" in public_classes("simclr_lightning.losses")
        True
    """
    found = _definition(module, "__all__")
    value = getattr(found[0], "value", None) if found else None
    names = (
        [str(own.value) for own in value.elts if isinstance(own, ast.Constant)] if isinstance(value, ast.List) else []
    )
    return [name for name in names if (own := _definition(module, name)) and isinstance(own[0], ast.ClassDef)]


def bases_of(module: str, name: str) -> list[str]:
    """Names of the classes that a class is derived from, the nearest first.

    Example:
        >>> "ContrastiveLoss" in bases_of("simclr_lightning.losses", "HardNegativeNTXent")
        True
    """
    found = _definition(module, name)
    if found is None or not isinstance(found[0], ast.ClassDef):
        return []
    names = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in found[0].bases]
    return [*names, *(above for own in names for above in bases_of(found[1], own))]


def registered_models(package: str) -> list[str]:
    """Names of the networks that torchvision or timm builds, by the decorators in its source.

    Example:
        >>> "resnet50" in registered_models("torchvision")
        True
    """
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder, "models").glob("*.py"))]
    pattern = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)", re.MULTILINE)
    return [name for file in files for name in pattern.findall(file.read_text(encoding="utf-8"))]


def _arguments(node: ast.AST, place: str) -> Iterator[Argument]:
    if isinstance(node, ast.ClassDef):
        made = next((own for own in node.body if isinstance(own, ast.FunctionDef) and own.name == "__init__"), None)
        if made is not None:
            yield from _arguments(made, place)
        elif _is_dataclass(node):
            for own in node.body:
                if isinstance(own, ast.AnnAssign) and isinstance(own.target, ast.Name):
                    yield _argument(own.target.id, own.annotation, place)
        else:
            above = (_definition(place, ast.unparse(base)) for base in node.bases)
            yield from next((_arguments(*found) for found in above if found is not None), iter(()))
    elif isinstance(node, ast.FunctionDef):
        for named in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if named.arg != "self":
                yield _argument(named.arg, named.annotation, place)


def _argument(name: str, annotation: ast.AST | None, place: str) -> Argument:
    parts = list(_parts(annotation, place)) if annotation is not None else []
    choices = tuple(dict.fromkeys(choice for choices, _ in parts for choice in choices))
    return Argument(name, choices, tuple(field for _, fields in parts for field in fields))


def _parts(node: ast.AST, place: str) -> Iterator[tuple[tuple[str, ...], list[Argument]]]:
    """Choices and fields of the parts of a type: of unions, literals, dataclasses, and of aliases of them."""
    match node:
        case ast.BinOp(left=left, right=right):
            yield from _parts(left, place)
            yield from _parts(right, place)
        case ast.Name(id="bool"):
            yield _SWITCH, []
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            values = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            yield tuple(str(own.value) for own in values if isinstance(own, ast.Constant)), []
        case ast.Subscript(value=ast.Name(id="Optional" | "Union"), slice=inner):
            for own in inner.elts if isinstance(inner, ast.Tuple) else [inner]:
                yield from _parts(own, place)
        case ast.Name(id=name):
            found = _definition(place, name)
            if found is not None and isinstance(found[0], ast.ClassDef) and _is_dataclass(found[0]):
                yield (), list(_arguments(*found))
            elif found is not None and isinstance(found[0], ast.Assign | ast.AnnAssign) and found[0].value:
                yield from _parts(found[0].value, found[1])


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(own) for own in node.decorator_list)


def _definition(module: str, name: str) -> tuple[ast.AST, str] | None:
    """Where a name of a module is defined, and the module in which that is; None elsewhere than in what is read."""
    for node in _statements(module):
        match node:
            case ast.ClassDef(name=own) | ast.FunctionDef(name=own) if own == name:
                return node, module
            case ast.Assign(targets=[ast.Name(id=own)]) | ast.AnnAssign(target=ast.Name(id=own)) if own == name:
                return node, module
            case ast.ImportFrom(module=str(other), names=aliases, level=0):
                for alias in aliases:
                    if (alias.asname or alias.name) == name:
                        return _definition(other, alias.name)
    return None


@cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    """Of a module, and within its ``if TYPE_CHECKING``."""
    package, _, inner = module.partition(".")
    spec = find_spec(package) if package in _READ else None
    for folder in (spec and spec.submodule_search_locations) or ():
        place = Path(folder, *inner.split(".")) if inner else Path(folder)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                body = ast.parse(file.read_text(encoding="utf-8")).body
                return tuple(
                    own for node in body for own in ([node, *node.body] if isinstance(node, ast.If) else [node])
                )
    return ()
