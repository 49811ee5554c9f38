"""What the user's own code holds beside the state of its modules: constants, and its closures."""

from __future__ import annotations

import dis
import enum
import functools
import inspect
import re
import types
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from iaside_plugins.storage.code import code_names, contents, is_own_object, own_functions

_CONSTANTS = (torch.Tensor, np.ndarray, np.generic, int, float, complex, bytes, enum.Enum)
# Devices and paths: where a model runs, or its weights were, does not decide its outputs.
_PLACE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?|.*[/\\].*", re.DOTALL)
_STORES = ("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "DELETE_GLOBAL")


def held(model: Any) -> dict[str, Any]:
    """Return modules and constants that decide a model's outputs, outside of its own state.

    Of an ``nn.Module``: constants of the user's own classes, in attributes (a mean that is no
    buffer) and in the module variables that their code names. Of another callable: whatever its
    code reaches in closures, defaults, arguments of `functools.partial`, attributes and module
    variables. What such code sets itself, other than in ``__init__``, is no constant, also in an
    object that it holds, nor is an integer in a mapping: a model may count its passes there.

    Returns:
        Modules, tensors, arrays, numbers, texts and lists of them, by where they were found.
    """
    found: dict[str, Any] = {}
    seen: dict[int, Any] = {}
    if isinstance(model, nn.Module):
        for name, part in model.named_modules():
            inside = _Code().within(part)
            for key, value in _own_parts(part, _Code()):
                if not isinstance(value, nn.Module):
                    _reach(f"{name}.{key}", value, found, seen, inside)
    else:
        _reach("model", model, found, seen, _Code())
    return found


@dataclass(frozen=True)
class _Code:
    """The code through which an object was reached.

    Attributes:
        sets: Attributes and module variables that it sets, other than its own object's attributes.
        own: Attributes of the object whose method it is.
    """

    sets: Set[str] = frozenset()
    own: Set[str] = frozenset()

    def within(self, one: Any) -> _Code:
        """Return the code through which the parts of an object or function are reached."""
        if isinstance(one, types.FunctionType):
            return _Code(self.sets | (_sets(one) - self.own), self.own)
        own = frozenset(_attributes(one))
        return _Code(self.sets | (_sets(one) - own), own)


def _reach(
    where: str, one: Any, found: dict[str, Any], seen: dict[int, Any], through: _Code
) -> None:
    """Add what an object is or holds; `seen` keeps objects, so that their ids stay theirs."""
    if isinstance(one, nn.Module) or _is_constant(one):
        found[where] = one
    elif id(one) not in seen:
        seen[id(one)] = one
        inside = through.within(one)
        for name, part in _parts(one, through):
            _reach(f"{where}.{name}", part, found, seen, inside)


def _parts(one: Any, through: _Code) -> Iterator[tuple[str, Any]]:
    """Yield what a function holds, or an object that is no module, but for what code sets."""
    if isinstance(one, functools.partial):
        yield from {"func": one.func, "args": one.args, **one.keywords}.items()
    elif isinstance(one, Mapping):
        yield from ((str(key), value) for key, value in one.items() if type(value) is not int)
    elif isinstance(one, (list, tuple)):
        yield from ((str(k), value) for k, value in enumerate(one))
    elif inspect.ismethod(one):
        yield from {"self": one.__self__, "func": one.__func__}.items()
    elif isinstance(one, types.FunctionType):
        closed = _set_by(one.__code__, ("STORE_DEREF",))
        yield from ((name, value) for name, value in contents(one).items() if name not in closed)
        if is_own_object(one):
            names = sorted(code_names(one.__code__) - through.sets - _sets(one))
            known = {name: v for name, v in one.__globals__.items() if not name.startswith("__")}
            yield from ((name, known[name]) for name in names if name in known)
    elif not isinstance(one, type):
        yield from _own_parts(one, through)
        yield from ((key, v) for key, v in _attributes(one).items() if isinstance(v, nn.Module))


def _own_parts(one: Any, through: _Code) -> Iterator[tuple[str, Any]]:
    """Yield attributes and functions of an object whose class is the user's own code."""
    functions = own_functions(type(one))
    yield from ((function.__qualname__, function) for function in functions)
    left_out = through.sets | _sets(one) | {"training"}
    for key, value in _attributes(one).items() if functions else ():
        if not key.startswith("_") and key not in left_out:
            yield key, value


def _sets(one: Any) -> Set[str]:
    """Return the attributes and module variables that a function, or an object's class, sets."""
    if isinstance(one, types.FunctionType):
        return frozenset() if one.__name__ == "__init__" else _set_by(one.__code__)
    return frozenset().union(*map(_sets, own_functions(type(one))))


def may_count(value: Any) -> bool:
    """Whether a value is an integer, a truth value, or a list of such, which may be counts."""
    if isinstance(value, list):
        return all(isinstance(one, int) for one in value)
    return isinstance(value, int)


def integers(model: Any) -> dict[str, Any]:
    """Return the integers, truth values and lists of them that a model and modules in it hold.

    One may be a setting, or a count that another object keeps: they are told apart by the user.
    """
    return _integers(model, frozenset())


def _integers(model: Any, inside: frozenset[int]) -> dict[str, Any]:
    """Return the integers of a model; of modules that hold it, by their ids, not once more."""
    out: dict[str, Any] = {}
    inside |= {id(model)}
    for key, value in held(model).items():
        if isinstance(value, nn.Module) and id(value) not in inside:
            out |= {f"{key}.{name}": one for name, one in _integers(value, inside).items()}
        elif may_count(value):
            out[key] = value
    return out


def _attributes(one: Any) -> dict[str, Any]:
    """Return the attributes of an object, none where its class has slots."""
    found: dict[str, Any] = getattr(one, "__dict__", {})
    return found


def _is_constant(value: Any) -> bool:
    """Whether a value is a tensor, an array, a number or a text, or a list of such."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_constant, value))
    if isinstance(value, str):
        return not _PLACE.fullmatch(value)
    return isinstance(value, _CONSTANTS)


def _set_by(code: types.CodeType, stores: Collection[str] = _STORES) -> set[str]:
    """Return the attributes and module variables that code sets, with those of functions in it.

    Args:
        code: Of a function.
        stores: Instructions that set: STORE_DEREF for what functions close over.
    """
    own = {one.argval for one in dis.get_instructions(code) if one.opname in stores}
    inner = (_set_by(part, stores) for part in code.co_consts if isinstance(part, types.CodeType))
    return own.union(*inner)
