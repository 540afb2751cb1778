"""The files under the names that README and docs use, in a folder to run their commands in."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from hub import MODEL
from pages import ROOT
from PIL import Image

from pixelprune.check.tiny import tiny_model
from pixelprune.train import add_lora

ROW = {
    "messages": [
        {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Total?"}]},
        {"role": "assistant", "content": "12.50"},
    ]
}


def write_samples(folder: Path) -> None:
    """Write them, and the repository's ``examples`` beside them, into an empty folder."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    page = folder / "page.png"
    shutil.copy(folder / "examples" / "images" / "application-form.png", page)
    with Image.open(page) as image:
        image.convert("RGB").save(folder / "report.pdf")
    (folder / "scans").mkdir()
    for number in (1, 2):
        shutil.copy(folder / "examples" / "pages" / f"page-{number}.png", folder / "scans")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.write(folder / "examples" / "pages" / "page-3.png", "page-3.png")
    shutil.copy(folder / "examples" / "pages" / "page-1.png", folder / "a.png")
    (folder / "train.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "config.yaml").write_text(f"model: {MODEL}\noutput: out/model\ndata: {{train: [train.jsonl]}}\n")
    adapter = add_lora(tiny_model(), ["language"], rank=2)
    adapter.peft_config["default"].base_model_name_or_path = MODEL
    adapter.save_pretrained(folder / "out" / "lora-distill")
