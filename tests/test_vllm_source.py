"""The check of a vLLM that is not installed: signatures read from a wheel or a folder, without importing it."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pixelprune.errors import ConfigError
from pixelprune.vllm import compat
from pixelprune.vllm.source import Source

FILES = {
    "__init__.py": "import typing\nif typing.TYPE_CHECKING:\n    from pack.deep import Child\n"
    "else:\n    Child = None\n",
    "deep/__init__.py": "from .base import *\nfrom .base import Base as Renamed\nfrom . import base\n"
    "class Child(base.Base[int]):\n    def own(self, a, /, b, *args, c=1, **kwargs): ...\n"
    "Alias = Child\n",
    "deep/base.py": "from dataclasses import dataclass\nimport torch\n"
    "class Base(torch.nn.Module):\n    def __init__(self, first): ...\n    def inherited(self, x): ...\n"
    "    if True:\n        @classmethod\n        async def within(cls, y): ...\n"
    "@dataclass(frozen=True)\nclass Fields:\n    one: int\n    two: str = ''\n    three = 3\n"
    "@dataclass\nclass More(Fields):\n    four: int = 4\n"
    "def function(p, *, q): ...\n"
    "try:\n    from .gone import function2\nexcept ImportError:\n    def function2(r): ...\n"
    "from .base import circle\n"
    "raise RuntimeError('imported')\n",
    "deep/gone.py": "def function2(s): ...\n",
}


def make_folder(root: Path) -> Path:
    for name, text in FILES.items():
        file = root / "pack" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "pack-1.2.3.dist-info").mkdir()
    (root / "pack-1.2.3.dist-info" / "METADATA").write_text("Name: pack\nVersion: 1.2.3\n\nVersion: 9\n")
    return root


@pytest.fixture(params=["folder", "package", "wheel"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    root = make_folder(tmp_path / "root")
    if request.param == "folder":
        return Source(root, "pack")
    if request.param == "package":
        return Source(root / "pack", "pack")
    with zipfile.ZipFile(tmp_path / "pack.whl", "w") as wheel:
        for file in root.rglob("*"):
            if file.is_file():
                wheel.write(file, file.relative_to(root))
    return Source(tmp_path / "pack.whl", "pack")


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [
        ("pack", "Child", ["self", "first"]),  # behind TYPE_CHECKING, the constructor of its base
        ("pack.deep", "Child.own", ["self", "a", "b", "c", "args", "kwargs"]),
        ("pack.deep", "Child.inherited", ["self", "x"]),
        ("pack.deep", "Child.within", ["cls", "y"]),
        ("pack.deep", "Alias.inherited", ["self", "x"]),
        ("pack.deep", "Renamed.inherited", ["self", "x"]),
        ("pack.deep", "function", ["p", "q"]),  # import *
        ("pack.deep.base", "function2", ["s"]),  # what the try imports
        ("pack.deep", "Fields", ["one", "two"]),
        ("pack.deep.base", "Fields.__init__", ["one", "two"]),
        ("pack.deep.base", "More", ["four", "one", "two"]),
        ("pack.deep", "Child.missing", None),
        ("pack.deep", "Missing", None),
        ("pack.deep", "function.attribute", None),
        ("pack.missing", "Child", None),
        ("pack.deep.base", "circle", None),
        ("pack.deep.base", "torch", None),
    ],
)
def test_parameters(source: Source, module: str, name: str, parameters: list[str] | None) -> None:
    assert source(module, name) == parameters
    assert source.version == "1.2.3"


def test_another_package_or_no_package_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "root")
    (tmp_path / "notes.whl").write_text("no archive")
    for path in (tmp_path / "root", tmp_path / "notes.whl", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="is no wheel of vllm and no folder with its source"):
            Source(path, "vllm")


def make_vllm(root: Path, leave_out: str = "") -> Path:
    """A folder with a module for each place of the table, of the shape that the table asks for."""
    (root / "vllm").mkdir(parents=True)
    (root / "vllm" / "__init__.py").write_text("")
    modules: dict[str, list[str]] = {}
    for place, needed in compat.NEEDED.items():
        module, _, name = place.partition(":")
        if not module.startswith("vllm"):
            continue
        lines = modules.setdefault(module, [])
        if isinstance(needed, tuple):
            lines.append(f"def {name}({', '.join(each for each in needed if f'{name}.{each}' != leave_out)}): ...")
            continue
        lines.append(f"class {name}:\n    pass")
        for method, parameters in needed.items():
            if f"{name}.{method}" != leave_out:
                lines.append(f"    def {method}(self, {', '.join(parameters)}): ...")
    for module, lines in modules.items():
        file = root / module.replace(".", "/") / "__init__.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        ast.parse("\n".join(lines))
        file.write_text("\n".join(lines))
    return root


@pytest.mark.parametrize(
    ("leave_out", "said"),
    [
        ("MultiModalHasher.hash_kwargs", "vllm.multimodal.hasher.MultiModalHasher.hash_kwargs"),
        ("PlaceholderRange.length", "the parameter length of vllm.multimodal.inputs.PlaceholderRange"),
    ],
)
def test_the_doctor_checks_a_folder(tmp_path: Path, leave_out: str, said: str) -> None:
    """Where no vLLM is installed. A name that is left out is missing: the control."""

    def doctor(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pixelprune", "doctor", "--vllm", str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    whole = doctor(make_vllm(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "✓ vLLM of unknown version in" in whole.stdout and "checked by signature, not run" in whole.stdout
    broken = doctor(make_vllm(tmp_path / "broken", leave_out))
    assert broken.returncode == 1 and f"missing {said}. Install vLLM 0.32" in broken.stdout.replace("\n", " ")
    nothing = doctor(tmp_path)
    assert nothing.returncode == 2
    assert f"{tmp_path} is no wheel of vllm and no folder with its source" in nothing.stderr.replace("\n", " ")
