"""Signatures read from source, for a version of vLLM that is not installed: parsed, never imported."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from ..errors import ConfigError

#: Where a name is defined: its module, and the statement there.
_Definition = tuple[str, ast.stmt]


class Source:
    """A package's source in a wheel, or in a folder that holds the package or is the package.

    Calling it with a module and the name of a function, a class or ``Class.method`` gives the names of the parameters,
    for a class those of its constructor; ``None`` where there is no such name. Names that a module imports from another
    module of the package are followed, and methods are looked for in base classes within the package.

    Args:
        path: the wheel or folder.
        package: the name of the package.

    Raises:
        ConfigError: the package is not in there.
    """

    def __init__(self, path: Path, package: str) -> None:
        self._path, self._package = path, package
        self._modules: dict[str, dict[str, ast.stmt] | None] = {}
        if self._read(f"{package}/__init__.py") is None:
            raise ConfigError(f"{path} is no wheel of {package} and no folder with its source")

    @cached_property
    def version(self) -> str | None:
        """The version in the metadata beside the package; ``None`` where there is none, as in a clone."""
        for name, text in self._metadata():
            if name.startswith(f"{self._package}-"):
                found = (line.partition(": ")[2] for line in text.splitlines() if line.startswith("Version: "))
                return next(found, None)
        return None

    def __call__(self, module: str, name: str) -> Collection[str] | None:
        first, _, method = name.partition(".")
        definition = self._find(module, first)
        if definition is None:
            return None
        if not isinstance(definition[1], ast.ClassDef):
            return None if method else _parameters(definition[1])
        if method in ("", "__init__"):
            return self._constructor(definition)
        for _, each in self._lineage(definition):
            if method in (members := _names(each.body)):
                return _parameters(members[method])
        return None

    def _constructor(self, definition: _Definition) -> list[str]:
        """Of ``__init__``, or the fields of a dataclass: of a decorated class without it."""
        fields: list[str] = []
        for _, each in self._lineage(definition):
            members = _names(each.body)
            if "__init__" in members:
                return [*_parameters(members["__init__"]), *fields]
            if each.decorator_list:
                fields += [name for name, member in members.items() if isinstance(member, ast.AnnAssign)]
        return fields

    def _lineage(self, definition: _Definition) -> Iterator[tuple[str, ast.ClassDef]]:
        """A class and its bases within the package, depth first."""
        module, node = definition
        if not isinstance(node, ast.ClassDef):
            return
        yield module, node
        for base in node.bases:
            base = base.value if isinstance(base, ast.Subscript) else base
            found = None
            if isinstance(base, ast.Name):
                found = self._find(module, base.id)
            elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
                place = self._imported(module, base.value.id)
                found = self._find(place, base.attr) if place is not None else None
            if found is not None and found[1] is not node:
                yield from self._lineage(found)

    def _find(self, module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> _Definition | None:
        """Where a name of a module is defined, through imports."""
        if (module, name) in seen:
            return None
        seen |= {(module, name)}
        names = self._names(module)
        if names is None:
            return None
        found = names.get(name)
        if found is None:
            stars = (each for key, each in names.items() if key.startswith("*"))
            places = (self._from(module, each) for each in stars if isinstance(each, ast.ImportFrom))
            return next(filter(None, (self._find(place, name, seen) for place in places)), None)
        if isinstance(found, ast.ImportFrom):
            original = next(alias.name for alias in found.names if (alias.asname or alias.name) == name)
            return self._find(self._from(module, found), original, seen)
        if isinstance(found, ast.Assign) and isinstance(found.value, ast.Name):
            return self._find(module, found.value.id, seen)
        return module, found

    def _imported(self, module: str, name: str) -> str | None:
        """The module that a name of a module is, by ``from package import module``."""
        found = (self._names(module) or {}).get(name)
        if not isinstance(found, ast.ImportFrom):
            return None
        original = next(alias.name for alias in found.names if (alias.asname or alias.name) == name)
        place = f"{self._from(module, found)}.{original}"
        return place if self._names(place) is not None else None

    def _from(self, module: str, statement: ast.ImportFrom) -> str:
        """The module that a ``from`` names, in a module."""
        if not statement.level:
            return statement.module or ""
        parts = module.split(".")
        up = statement.level - self._is_package(module)
        return ".".join([*parts[: len(parts) - up], *filter(None, [statement.module])])

    def _is_package(self, module: str) -> bool:
        return self._read(f"{module.replace('.', '/')}/__init__.py") is not None

    def _names(self, module: str) -> dict[str, ast.stmt] | None:
        """What a module defines or imports, by name; ``None`` where it is not in the package."""
        if module not in self._modules:
            path = module.replace(".", "/")
            text = self._read(f"{path}/__init__.py")
            text = self._read(f"{path}.py") if text is None else text
            self._modules[module] = None if text is None else _names(ast.parse(text).body)
        return self._modules[module]

    @cached_property
    def _wheel(self) -> ZipFile | None:
        try:
            return ZipFile(self._path) if self._path.is_file() else None
        except BadZipFile:
            return None

    def _read(self, name: str) -> bytes | None:
        """A file of the package, by its path from beside the package."""
        if self._wheel is not None:
            return self._wheel.read(name) if name in self._wheel.NameToInfo else None
        root = self._path.parent if self._path.name == self._package else self._path
        file = root / name
        return file.read_bytes() if name.split("/")[0] == self._package and file.is_file() else None

    def _metadata(self) -> Iterator[tuple[str, str]]:
        """The names and texts of the metadata beside the package."""
        if self._wheel is not None:
            for name in self._wheel.namelist():
                if name.endswith(".dist-info/METADATA"):
                    yield name, self._wheel.read(name).decode()
        else:
            root = self._path.parent if self._path.name == self._package else self._path
            for file in sorted(root.glob("*.dist-info/METADATA")):
                yield file.parent.name, file.read_text()


def _names(body: Iterable[ast.stmt]) -> dict[str, ast.stmt]:
    """The statements that define names, by name; those in ``if``, ``try`` and ``with`` too."""
    names: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names["*" + (node.module or "") if alias.name == "*" else alias.asname or alias.name] = node
        elif isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            others = [*getattr(node, "orelse", []), *(each for h in getattr(node, "handlers", []) for each in h.body)]
            # The body counts: an else or except defines what is used where something is missing.
            names |= {**_names(others), **_names(node.body)}
    return names


def _parameters(node: ast.stmt) -> list[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]
    return [each.arg for each in named]
