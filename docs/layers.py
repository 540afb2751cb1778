"""Print the picture of imports: the folders of the package in layers, and which others each imports.

    python docs/layers.py

The layers are those that `make lint` enforces (import-linter, in pyproject.toml). An import is left out where another
one implies it: what imports hf may import what hf imports.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGE = "pixelprune"


def layers() -> list[list[str]]:
    """The layers of the contract, the top one first, each a list of folders."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (lines,) = (contract["layers"] for contract in contracts if contract["id"] == "layers")
    return [[name.strip() for name in line.split("|")] for line in lines]


def imports() -> dict[str, set[str]]:
    """The folders (and files beside them) of the package, and which others each imports, also where it does so late."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, set[str]] = {name.split(".")[1]: set() for name in graph.modules if "." in name}
    for module in graph.modules - {PACKAGE}:
        folder = module.split(".")[1]
        for other in graph.find_modules_directly_imported_by(module) - {PACKAGE}:
            found[folder].add(other.split(".")[1])
        found[folder].discard(folder)
    return found


def reachable(found: dict[str, set[str]], start: str) -> set[str]:
    """What a folder imports, through others too."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = found[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def picture() -> str:
    """One line for each folder, an empty line between layers."""
    found = imports()
    blocks = []
    for layer in layers():
        lines = []
        for folder in layer:
            implied = set().union(*(reachable(found, other) for other in found[folder]))
            direct = " ".join(sorted(found[folder] - implied))
            lines.append(f"{folder:<10}  imports {direct}" if direct else folder)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


if __name__ == "__main__":
    print(picture())
