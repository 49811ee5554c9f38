"""Digests of the user's own code that a model consists of, so that its change is noticed."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

PACKAGE = Path(__file__).resolve().parents[1]
_SIMPLE = (int, float, complex, str, bytes, bool, type(None))
_read: WeakKeyDictionary[types.ModuleType, str] = WeakKeyDictionary()


@functools.cache
def package_digest() -> str:
    """Return a digest of this package's own code."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _installed() -> tuple[Path, ...]:
    """Return the folders whose code is not the user's own: Python, packages, this one."""
    paths = sysconfig.get_paths()
    names = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    names += [*site.getsitepackages(), site.getusersitepackages()]
    links = [PACKAGE / name for name in ("adapters", "leaderboard")]
    return (*(Path(name).resolve() for name in names), PACKAGE, *(path.resolve() for path in links))


def is_own(file: str | None) -> bool:
    """Whether a file of code is the user's own: neither Python's nor of an installed package."""
    if not file:
        return False
    path = Path(file).resolve()
    parts = {"site-packages", "dist-packages"} & set(path.parts)
    return not parts and not any(path.is_relative_to(folder) for folder in _installed())


# ---- modules, by their files ---------------------------------------------------------------
def files_digest(start: Iterable[str], new: Iterable[str] = ()) -> str:
    """Return a digest of the user's own modules that some modules consist of and import.

    A file is read once for a module: later changes of it are not in the code that runs here. That
    of a single module is the SHA-256 (hex) of its file.

    Args:
        start: Names of imported modules.
        new: Names of modules that were imported with them, however that was.
    """
    found: dict[str, str] = {}
    queue = [*start, *(name for name in new if is_own(_file(name)))]
    while queue:
        name = queue.pop()
        file = _file(name)
        if name in found or not is_own(file) or file is None:
            continue
        found[name] = _module_digest(name, Path(file))
        queue += _imported(name, Path(file))
        queue += [name.rpartition(".")[0]] if "." in name else []
    if len(found) == 1:
        return next(iter(found.values()))
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _file(name: str) -> str | None:
    """Return the file of a module: of an imported one, or what would be imported."""
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__file__", None)
    relative = Path(*name.split("."))
    for folder in sys.path:
        for path in (Path(folder) / relative / "__init__.py", Path(folder) / f"{relative}.py"):
            if path.is_file():
                return str(path)
    return None


def _module_digest(name: str, file: Path) -> str:
    module = sys.modules.get(name)
    if module is not None and module in _read:
        return _read[module]
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:  # of a module in an archive
        digest = ""
    if module is not None:
        _read[module] = digest
    return digest


def _imported(name: str, file: Path) -> Iterator[str]:
    """Yield the names that a module's import statements may mean."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # a compiled one
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            parts = parts[: len(parts) - node.level + 1] + (node.module or "").split(".")
            base = ".".join(part for part in parts if part)
            yield from (base, *(f"{base}.{alias.name}".strip(".") for alias in node.names))


# ---- objects, by the code in memory --------------------------------------------------------
def model_code(model: Any) -> str | None:
    """Return 16 hex digits of the user's own classes and functions that a model runs, or None.

    Their byte code and defaults, and those of the user's functions which they name; it differs
    between versions of Python. Values of attributes and of module variables are left out: a model
    may count its passes there.
    """
    if isinstance(model, nn.Module):
        kinds = {kind for part in model.modules() for kind in type(part).__mro__}
        patched = [vars(part).get("forward") for part in model.modules()]
        objects = [*kinds, *(one for one in patched if one is not None)]
    else:
        objects = [model if inspect.isroutine(model) else type(model)]
    texts: dict[str, str] = {}
    for one in objects:
        _collect(one, texts)
    if not texts:
        return None
    return hashlib.sha256("\n".join(sorted(texts.values())).encode()).hexdigest()[:16]


def _collect(one: Any, texts: dict[str, str]) -> None:
    """Add the texts of a function or of the functions of a class, and of those that they name."""
    if isinstance(one, type):
        if is_own_object(one):
            for value in vars(one).values():
                for part in _functions(value):
                    _collect(part, texts)
        return
    for part in _functions(one):
        name = f"{part.__module__}.{part.__qualname__}"
        if name in texts:
            continue
        cells = list(contents(part).values())
        if not is_own_object(part):
            for value in cells:  # what a decorator of a library wraps
                if isinstance(value, types.FunctionType):
                    _collect(value, texts)
            continue
        texts[name] = ""
        known = [part.__globals__[n] for n in code_names(part.__code__) if n in part.__globals__]
        simple = [repr(value) for value in part.__defaults__ or () if isinstance(value, _SIMPLE)]
        texts[name] = f"{part.__qualname__} {_code_text(part.__code__)} {simple}"
        for value in (*known, *cells):
            if isinstance(value, types.FunctionType):
                _collect(value, texts)


def _functions(value: Any) -> Iterator[types.FunctionType]:
    """Yield the plain functions in a function, method, property or static method."""
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    if isinstance(value, types.FunctionType):
        yield value


def contents(function: types.FunctionType) -> dict[str, Any]:
    """Return the values that a function closes over, and those of its defaults, by their names."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # of a cell that is still empty
            found[name] = cell.cell_contents
    return {
        **found,
        **{f"default {k}": value for k, value in enumerate(function.__defaults__ or ())},
        **(function.__kwdefaults__ or {}),
    }


def is_own_object(one: Any) -> bool:
    """Whether a class or function is of the user's own code, a script or a notebook among it."""
    module = sys.modules.get(one.__module__ or "")
    if one.__module__ == "__main__":
        return True
    return module is not None and is_own(getattr(module, "__file__", None))


def code_names(code: types.CodeType) -> set[str]:
    """Return the names that code reads, with those of the functions in it."""
    inner = (code_names(part) for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*inner)


def own_functions(kind: type) -> list[types.FunctionType]:
    """Return the functions of a class and its bases that are the user's own code, unwrapped.

    Static and class methods and the getters of properties are among them.
    """
    kinds = [one for one in kind.__mro__ if is_own_object(one)]
    found = [one for k in kinds for value in vars(k).values() for one in _functions(value)]
    unwrapped = map(inspect.unwrap, found)
    return [one for one in unwrapped if isinstance(one, types.FunctionType)]


def _code_text(code: types.CodeType) -> str:
    """Return byte code as text, without lines and files."""
    constants = [
        _code_text(part)
        if isinstance(part, types.CodeType)
        else repr(sorted(map(repr, part)) if isinstance(part, frozenset) else part)
        for part in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
