"""Training rows with videos, beside torchvision. Run by ``test_torchvision.py``, not collected by pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import Kit
from PIL import Image
from video_checks import OTHER, VIDEO, call_of, close, kit  # noqa: F401  (a fixture)

from pixelprune import PruneConfig
from pixelprune.errors import DataError
from pixelprune.hf.kept import KEPT
from pixelprune.train import ChatCollator, parse_row
from pixelprune.train.collator import IGNORE


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the numbered frames of VIDEO in a folder of their own, and one image."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "clip").mkdir()
    for number, frame in enumerate(VIDEO):
        Image.fromarray(frame).save(folder / "clip" / f"frame-{number}.png")
    Image.fromarray(OTHER[0]).save(folder / "one.png")
    return folder


def chat(*content: Any, **rest: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": list(content)}, {"role": "assistant", "content": "Typed: two."}],
        **rest,
    }


def rows(folder: Path) -> list[Any]:
    files = [f"clip/frame-{number}.png" for number in range(len(VIDEO))]
    return [
        chat({"type": "video", "video": "clip"}, {"type": "text", "text": "What?"}),
        chat({"type": "video", "video": files, "fps": 2}, {"type": "image", "image": "one.png"}),
        {
            "conversations": [{"from": "human", "value": "<image>See <video> What?"}, {"from": "gpt", "value": "No."}],
            "images": ["one.png"],
            "videos": [files],
            "fps": 2.0,
        },
        chat({"type": "text", "text": "Nothing to see."}),
    ]


@pytest.mark.parametrize("packing", [False, True])
def test_rows_with_videos(kit: Kit, frames: Path, packing: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(kit.processor.image_processor, "prune", PruneConfig(references="previous"))
    packing = packing and not kit.processor.family.recurrent  # those are not packed
    given = [parse_row(row, f"rows:{n}", frames) for n, row in enumerate(rows(frames), 1)]
    collator = ChatCollator(kit.processor)
    singles = [collator([row]) for row in given]
    batch = ChatCollator(kit.processor, packing=packing)(given)
    image = Image.fromarray(OTHER[0])
    parts: list[list[Any]] = [[VIDEO, "What?"], [VIDEO, image], [image, "See ", VIDEO, " What?"], ["Nothing to see."]]
    for row, single, texts in zip(parts, singles, ["Typed: two."] * 2 + ["No.", "Typed: two."], strict=True):
        call = call_of([row])
        call["text"] = [f"<|im_start|>user\n{call['text'][0]}<|im_end|>\n<|im_start|>assistant\n{texts}<|im_end|>\n"]
        expected = kit.processor(**call)
        assert torch.equal(single["input_ids"], expected["input_ids"])
        for name in ("pixel_values", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts", KEPT):
            assert (name in single) == (name in expected), name
            assert name not in expected or torch.equal(single[name], torch.as_tensor(expected[name]).to(single[name]))
        learned = single["labels"][0][single["labels"][0] != IGNORE]
        assert kit.processor.tokenizer.decode(learned) == f"{texts}<|im_end|>"
    kit.model.zero_grad()
    logits = kit.model(**batch).logits
    start = 0
    for number, single in enumerate(singles):
        with torch.no_grad():
            expected = kit.model(**single).logits[0]
        part = logits[0, start : start + len(expected)] if packing else logits[number, : len(expected)]
        start += len(expected)
        assert close(kit, part, expected, factor=20)
    logits.sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in kit.model.base_model.visual.patch_embed.parameters()
    )
    kit.model.zero_grad()


def test_rows_that_cannot_be_used(kit: Kit, frames: Path) -> None:  # noqa: F811
    part = {"type": "video", "video": "clip"}
    for row, message in (
        (chat({"type": "video", "video": "none.mp4"}), "there is no video or frame .*none.mp4"),
        (chat({**part, "fps": 0}), "fps must be a number above 0; got 0"),
        (chat({"type": "video", "video": Image.new("RGB", (8, 8))}), "a video is a file, a folder of frames, or"),
        (chat({"type": "video"}), "more <video> marks or video parts than videos; the row lists 0"),
        (chat(part, videos=["clip"]), "1 videos but only 0 <video> marks"),
    ):
        with pytest.raises(DataError, match=f"rows:7: .*{message}"):
            parse_row(row, "rows:7", frames)
    mixed = chat({"type": "video", "video": ["one.png", Image.new("RGB", (64, 64))]}, {"type": "text", "text": "?"})
    with pytest.raises(DataError, match="rows:7: the frames of a video must be of one size"):
        ChatCollator(kit.processor).encode(parse_row(mixed, "rows:7", frames))
    assert np.array_equal(np.asarray(Image.open(frames / "clip" / "frame-2.png")), VIDEO[2])
