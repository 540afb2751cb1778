"""With torchvision installed transformers takes another image processor class; all must hold with it too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".compat" / "torchvision"
#: A CUDA build of torchvision beside a CPU build of torch: its operators do not load, but images do not need them.
#: Their schemas are asked for when it is imported.
SITE = """
import torch

if torch.version.cuda is None:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
#: Reading files is left out: torchvision would decode them with an extension that does not load beside a CPU torch.
#: So is memory: it is measured in numpy. Large images are enough elsewhere.
CHOICE = (
    "torchvision_checks or video_checks or video_training_checks or (patch14 or patch16 or qwen3_vl- or qwen3_vl]) "
    "and not (path or url or peak_memory or .png or .jpg)"
)


def test_all_holds_beside_torchvision(tmp_path: Path) -> None:
    if not (FOLDER / "torchvision").is_dir():
        pytest.fail(
            f"{FOLDER.relative_to(ROOT)} is missing; `make .compat/torchvision/.ready` installs it", pytrace=False
        )
    (tmp_path / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(tmp_path), str(FOLDER), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    names = (
        "torchvision_checks.py",
        "video_checks.py",
        "test_preprocess.py",
        "test_processor.py",
        "test_processor_use.py",
    )
    files = [str(HERE / name) for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files, "-k", CHOICE]
    child = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    output = child.stdout[-6000:] + child.stderr[-2000:]
    assert child.returncode == 0, output
    assert "skipped" not in child.stdout, output
