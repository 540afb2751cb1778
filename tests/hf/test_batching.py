"""Whatever pads, joins, slices or stacks batches gives the answers of one at a time, or is refused in one line."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import send_to_device, slice_tensors
from kit import Kit, crop
from PIL import Image
from torch.utils.data import default_collate
from transformers import DynamicCache, pipeline
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling
from trl.trainer.utils import split_pixel_values_by_grid

from pixelprune.errors import PrunedInputError
from pixelprune.hf.kept import KEPT

STEPS = 6


def noise(side: int) -> Image.Image:
    """An image of which nothing is pruned."""
    return Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8))


def message(image: Image.Image, text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]


PRUNED = [message(crop("dark"), "What is selected?"), message(crop("form"), "Total?"), message(crop("chart"), "Why?")]
EQUAL = [message(crop("dark"), text) for text in ("What is it?", "Who is it?!", "Where is it", "When is it?")]
WHOLE = [message(noise(128), "What?"), message(noise(160), "And what is this?"), message(noise(96), "This?")]
MIXES = {"pruned": PRUNED, "equal": EQUAL, "whole": WHOLE, "mixed": [WHOLE[0], *PRUNED, *WHOLE[1:]]}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_pipelines(qwen3: Kit, mix: str, size: int) -> None:
    pipe = pipeline("image-text-to-text", model=qwen3.model, processor=qwen3.processor)
    settings = {"return_full_text": False, "max_new_tokens": STEPS, "do_sample": False}
    chats = MIXES[mix]

    def answers(**how: Any) -> list[str]:
        return [out[0]["generated_text"] for out in pipe(text=chats, **settings, **how)]

    apart = answers()
    assert answers(batch_size=size) == apart
    assert len(set(apart)) > 1, "control: equal answers would hide an exchange of rows"


def test_pipeline_that_prunes_nothing(qwen3: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = [out[0]["generated_text"] for out in ask(qwen3, PRUNED)]
    monkeypatch.setattr(qwen3.processor.image_processor, "prune", None)
    apart, together = ask(qwen3, PRUNED), ask(qwen3, PRUNED, batch_size=3)
    assert together == apart
    assert [out[0]["generated_text"] for out in apart] != pruned, "control"


def ask(kit: Kit, chats: list[Any], **how: Any) -> Any:
    pipe = pipeline("image-text-to-text", model=kit.model, processor=kit.processor)
    return pipe(text=chats, return_full_text=False, max_new_tokens=STEPS, do_sample=False, **how)


def logits_of(kit: Kit, batch: Any) -> list[torch.Tensor]:
    """Per row the logits of what is not padding."""
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "completion_mask")}
    with torch.no_grad():
        logits = kit.model(**inputs).logits
    return [row[mask.bool()] for row, mask in zip(logits, batch["attention_mask"], strict=True)]


def alone(kit: Kit, chat: list[dict[str, Any]]) -> torch.Tensor:
    inputs = kit.processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")
    return logits_of(kit, inputs)[0]


def answer(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def close(got: torch.Tensor, expected: torch.Tensor) -> bool:
    return got.shape == expected.shape and bool((got - expected).abs().max() < 1e-4 * expected.abs().max())


CHATS = [
    (crop("dark"), "What is selected?", "This"),
    (noise(96), "What?", "Noise, no more"),
    (crop("form"), "Sum?", "9"),
]


def test_trl_fine_tuning_on_messages(qwen3: Kit) -> None:
    rows = [{"images": [image], "messages": text(q) + answer(a)} for image, q, a in CHATS]
    batch = DataCollatorForVisionLanguageModeling(qwen3.processor)(rows)
    assert len(batch["pixel_values"]) < int(batch["image_grid_thw"].prod(-1).sum())
    for got, (image, q, a) in zip(logits_of(qwen3, batch), CHATS, strict=True):
        assert close(got, alone(qwen3, message(image, q) + answer(a)))


def test_trl_fine_tuning_on_prompts_and_completions(qwen3: Kit) -> None:
    """The collator appends completions, moves padding and leaves pixelprune_kept as it was for the prompts."""
    rows = [{"images": [image], "prompt": text(q), "completion": answer(a)} for image, q, a in CHATS]
    batch = DataCollatorForVisionLanguageModeling(qwen3.processor)(rows)
    assert batch[KEPT].shape != batch["input_ids"].shape
    for got, (image, q, a) in zip(logits_of(qwen3, batch), CHATS, strict=True):
        assert close(got, alone(qwen3, message(image, q) + answer(a)))
    swapped = {**batch, KEPT: batch[KEPT].flip(0)}
    with pytest.raises(PrunedInputError, match="image tokens but row"):
        logits_of(qwen3, swapped)


def text(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}]


def test_trl_preferences(qwen3: Kit) -> None:
    """DPO: every prompt twice, with the chosen and with the rejected answer."""
    rows = [
        {"images": [image], "prompt": text(q), "chosen": answer(a), "rejected": answer("No")} for image, q, a in CHATS
    ]
    batch = DataCollatorForVisionPreference(qwen3.processor)(rows)
    expected = [alone(qwen3, message(image, q) + answer(a)) for image, q, a in CHATS]
    expected += [alone(qwen3, message(image, q) + answer("No")) for image, q, _ in CHATS]
    got = logits_of(qwen3, batch)
    assert len(got) == 6 and all(close(a, b) for a, b in zip(got, expected, strict=True))


def test_trl_group_rollouts_are_refused(qwen3: Kit) -> None:
    """GRPO cuts pixel_values by the full grids and passes on known names only."""
    inputs = qwen3.processor(text=[qwen3.text("image", "What?")], images=[crop("dark")], return_tensors="pt")
    with pytest.raises(ValueError, match="Mismatch: sum") as refused:
        split_pixel_values_by_grid({**inputs, "num_images": [1]})
    assert "\n" not in str(refused.value)
    with pytest.raises(PrunedInputError, match="pixelprune_kept, which says which of them are kept, is missing"):
        logits_of(qwen3, {name: value for name, value in inputs.items() if name != KEPT})


def batch_of_two(kit: Kit) -> Any:
    prompts = [kit.text("image", "What?"), kit.text("image", "Whom do you see?")]
    return kit.processor(text=prompts, images=[crop("dark"), crop("form")], padding=True, return_tensors="pt")


def test_slices_and_pickles(qwen3: Kit) -> None:
    """Rows cut with the patches of their images are those rows; moved and pickled batches are the batch."""
    batch = batch_of_two(qwen3)
    expected = logits_of(qwen3, batch)
    first = int((batch[KEPT][0] > 0).sum()) * 4
    rows = {key: batch[key][:1] for key in ("input_ids", "attention_mask", KEPT, "image_grid_thw", "mm_token_type_ids")}
    assert close(logits_of(qwen3, {**rows, "pixel_values": batch["pixel_values"][:first]})[0], expected[0])
    for same in (pickle.loads(pickle.dumps(batch)), send_to_device(batch, "cpu"), batch.to(torch.float32)):
        assert all(torch.equal(a, b) for a, b in zip(logits_of(qwen3, same), expected, strict=True))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda b: slice_tensors(dict(b), slice(0, 1)), r"is of \d+ patches but pixel_values has 1 rows"),
        (lambda b: {**b, KEPT: b[KEPT][1:]}, r"must have the rows of input_ids, 2; got shape \(1, \d+\)"),
        (lambda b: {**b, "input_ids": b["input_ids"].flip(0)}, r"image tokens but row 0|at other places"),
        (lambda b: default_collate([dict(b)]), r"pixel_values must be \(patches, values\) and image_grid_thw"),
    ],
    ids=["accelerate's dispatch", "rows missing", "rows exchanged", "default_collate"],
)
def test_batches_that_were_cut_or_stacked_are_refused(qwen3: Kit, cut: Any, message: str) -> None:
    with torch.no_grad(), pytest.raises(PrunedInputError, match=message):
        qwen3.model(**cut(batch_of_two(qwen3)))


@pytest.mark.parametrize("images", [[crop("dark")], [noise(96)]], ids=["pruned", "whole"])
def test_positions_of_another_shape_are_refused(qwen3: Kit, images: list[Any]) -> None:
    """Also where nothing is pruned, and where the stock processor made the inputs."""
    inputs = qwen3.processor(text=[qwen3.text("image", "What?")], images=images, return_tensors="pt")
    positions = qwen3.processor.position_ids(inputs)
    length = inputs["input_ids"].shape[1]
    message = rf"position_ids must be \(4, batch, length\) = \(4, 1, {length}\); got"
    for wrong in (positions.repeat(2, 1, 1), positions[:, :, 1:], positions.transpose(0, 1)):
        with torch.no_grad(), pytest.raises(PrunedInputError, match=message):
            qwen3.model(**inputs, position_ids=wrong)
        with pytest.raises(PrunedInputError, match=message):
            qwen3.model.generate(**inputs, position_ids=wrong, max_new_tokens=1)
    with torch.no_grad():
        assert close(qwen3.model(**inputs, position_ids=positions).logits[0], qwen3.model(**inputs).logits[0])


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_either_name_of_the_cache(kit: Kit, name: str) -> None:
    """transformers 5.24 renamed it; both work on every supported version, in forward and in generate."""
    first, second = kit.text("image", "What is this?"), kit.text("And this? ", "image")
    before = kit.processor(text=[first], images=[crop("form")], return_tensors="pt")
    whole = kit.processor(text=[first + second], images=[crop("form"), crop("dark")], return_tensors="pt")
    settings = {"max_new_tokens": STEPS, "do_sample": False}
    expected = kit.model.generate(**whole, **settings)
    cache = DynamicCache(config=kit.model.config)
    with torch.no_grad():
        kit.model(**before, use_cache=True, **{name: cache})
    assert cache.get_seq_length() == before["input_ids"].shape[1]
    assert torch.equal(kit.model.generate(**whole, **settings, **{name: cache}), expected)
    fresh = DynamicCache(config=kit.model.config)
    assert torch.equal(kit.model.generate(**whole, **settings, **{name: fresh}), expected)
    assert fresh.get_seq_length() > whole["input_ids"].shape[1]


def test_new_images_after_a_cache_need_positions_in_forward(qwen3: Kit) -> None:
    first, second = qwen3.text("image", "What is this?"), qwen3.text("And this? ", "image")
    before = qwen3.processor(text=[first], images=[crop("form")], return_tensors="pt")
    both = qwen3.processor(text=[first + second], images=[crop("form"), crop("dark")], return_tensors="pt")
    new = qwen3.processor(text=[second], images=[crop("dark")], return_tensors="pt")
    with torch.no_grad():
        expected = qwen3.model(**both).logits[0]
        cache = qwen3.model(**before, use_cache=True).past_key_values
        start = cache.get_seq_length()
        rest = {**new, "attention_mask": both["attention_mask"], "past_key_values": cache}
        with pytest.raises(PrunedInputError, match=r"need the position_ids of their tokens"):
            qwen3.model(**rest)
        positions = qwen3.processor.position_ids(both)[..., start:]
        assert close(qwen3.model(**rest, position_ids=positions).logits[0], expected[start:])


def test_features_of_pruned_pixels_are_refused(kit: Kit) -> None:
    inputs = kit.processor(text=[kit.text("image", "What?")], images=[crop("dark")], return_tensors="pt")
    pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
    for ask_for in (kit.model.get_image_features, kit.model.base_model.get_image_features):
        with pytest.raises(PrunedInputError, match=rf"the vision tower got {len(pixels)} patches for a grid of") as no:
            ask_for(pixels, grid)
        assert "\n" not in str(no.value)
    whole = kit.stock(images=[crop("dark")], return_tensors="pt")
    assert kit.model.get_image_features(whole["pixel_values"], whole["image_grid_thw"]) is not None
