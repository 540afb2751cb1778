"""The kernels compile when first used, not at import; are cached on disk; and do without where they cannot be.

Every test runs a copy of the package in a process of its own, so that no other cache can help.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pixelprune

#: Selects in several threads at once, so that compiling is put to that test, too, and reports what it saw.
PROGRAM = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import pixelprune
loaded = sorted({"numba", "torch", "transformers", "PIL"} & set(sys.modules))
import numpy as np
image = np.array([[7, 7, 9, 9], [7, 8, 9, 9]], np.uint8)[..., None]
methods = ("pred2d", "adaptive", "raster", "serpentine", "components") * 2
def kept(method):
    return pixelprune.select(image, pixelprune.PruneConfig(method), block_size=1).kept_indices.tolist()
with ThreadPoolExecutor(4) as pool:
    results = list(pool.map(kept, methods))
from pixelprune.core import kernels as _walk
kernels = (_walk.walk_2d, _walk.walk_scan, _walk.walk_components)
print(json.dumps({
    "file": pixelprune.__file__,
    "loaded_by_import": loaded,
    "loaded_by_select": sorted({"torch", "transformers"} & set(sys.modules)),
    "kept": dict(zip(methods, results)),
    "agree": results[:5] == results[5:],
    "hits": [sum(kernel.stats.cache_hits.values()) for kernel in kernels],
    "misses": [sum(kernel.stats.cache_misses.values()) for kernel in kernels],
}))
"""
#: What PROGRAM's image, 7 7 9 9 over 7 8 9 9, must give.
KEPT = {
    "pred2d": [0, 2, 5, 6],  # no edge runs from 7 to 8, so the 9 after the 8 is predicted to be an 8
    "adaptive": [0, 2, 5],  # the second row predicts from above
    "raster": [0, 2, 4, 5, 6],
    "serpentine": [0, 2, 4, 5],
    "components": [0, 2, 5],
}


@pytest.fixture
def package(tmp_path):
    """A fresh copy of the package, without compiled code, in a folder of its own."""
    source = Path(pixelprune.__file__).parent
    shutil.copytree(source, tmp_path / "site" / "pixelprune", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site" / "pixelprune"


def run(package, program=PROGRAM, *options, **environment):
    """Run a program that finds the copied package first; what it printed, and what it said on stderr."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHON", "XDG_"))}
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        env=base | {"PYTHONPATH": str(package.parent)} | environment,
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert Path(report["file"]).parent == package
    return report, done.stderr


def cached(folder):
    """Compiled code below a folder, by path, with the time it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb[ic]")}


def test_import_loads_no_compiler_and_no_engine(package):
    program = """if True:
        import json, sys
        import pixelprune
        heavy = {"numba", "llvmlite", "torch", "torchvision", "transformers", "typer", "rich"}
        print(json.dumps({"file": pixelprune.__file__, "heavy": sorted(heavy & set(sys.modules))}))
    """
    report, stderr = run(package, program)
    assert report["heavy"] == []
    assert stderr == ""
    assert cached(package.parent) == {}
    # Control: the same look at sys.modules does see a compiler that is loaded.
    report, _ = run(package, program.replace("import pixelprune\n", "import pixelprune, numba\n"))
    assert report["heavy"] == ["llvmlite", "numba"]


def test_compiled_code_is_cached_and_found_again(package):
    first, stderr = run(package)
    assert (first["kept"], first["agree"], stderr) == (KEPT, True, "")
    assert first["loaded_by_import"] == first["loaded_by_select"] == []
    assert first["hits"] == [0, 0, 0]
    assert min(first["misses"]) > 0
    files = cached(package / "core" / "__pycache__")
    for kernel in ("walk_2d", "walk_scan", "walk_components"):
        assert any(kernel in path.name and path.suffix == ".nbi" for path in files)
        assert any(kernel in path.name and path.suffix == ".nbc" for path in files)

    second, stderr = run(package)
    assert (second["kept"], second["agree"], stderr) == (KEPT, True, "")
    assert min(second["hits"]) > 0
    assert second["misses"] == [0, 0, 0]
    assert cached(package / "core" / "__pycache__") == files  # nothing added, nothing written again


def test_a_read_only_installation_uses_the_cache_of_the_user(package, tmp_path):
    (package / "core" / "__pycache__").write_text("a file, where a folder would have to be made")
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / ".cache")}
    first, stderr = run(package, PROGRAM, "-B", **home)
    assert (first["kept"], first["agree"], stderr) == (KEPT, True, "")
    files = cached(tmp_path / "home")
    assert files
    second, _ = run(package, PROGRAM, "-B", **home)
    assert second["misses"] == [0, 0, 0]
    assert cached(tmp_path / "home") == files


def test_no_place_for_a_cache_at_all(package, tmp_path):
    """Root may write anywhere, so files stand where folders would have to be made."""
    (package / "core" / "__pycache__").write_text("")
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    homeless = {"HOME": str(nowhere / "home"), "XDG_CACHE_HOME": str(nowhere / "cache")}
    report, stderr = run(package, PROGRAM, "-B", **homeless)
    assert (report["kept"], report["agree"], stderr) == (KEPT, True, "")
    assert report["hits"] == [0, 0, 0]
    assert cached(tmp_path) == {}
    # Control: numba by itself refuses such a place.
    program = """if True:
        import json, numba, pixelprune
        from pixelprune.core import config
        try:
            numba.njit(cache=True)(config.is_integer)
            refused = ""
        except RuntimeError as error:
            refused = str(error)
        print(json.dumps({"file": pixelprune.__file__, "refused": refused}))
    """
    assert "cannot cache function" in run(package, program, "-B", **homeless)[0]["refused"]
