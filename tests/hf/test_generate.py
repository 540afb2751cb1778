"""What people do with generate(): batches, beams, sampling, caches, continuation, chunks, compile, pipeline."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from kit import EXACT, TOLERANCE, Kit, crop
from packaging.version import Version
from torch import Tensor
from transformers import DynamicCache, pipeline
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pixelprune.check import oracle
from pixelprune.hf import enable
from pixelprune.models.registry import family_of

STEPS = 8


def rows_of(kit: Kit) -> list[tuple[str, list[Any]]]:
    """Mixed rows: two images, none, one of another size."""
    return [
        (kit.text("Compare ", "image", " with ", "image", " please."), [crop("form"), crop("chart")]),
        (kit.text("No image here."), []),
        (kit.text("image", "What is selected?"), [crop("dark")]),
    ]


def batch_of(kit: Kit, rows: list[tuple[str, list[Any]]], side: str = "left") -> Any:
    kit.processor.tokenizer.padding_side = side
    try:
        return kit.processor(
            text=[text for text, _ in rows],
            images=[images for _, images in rows],
            padding=True,
            return_tensors="pt",
        )
    finally:
        kit.processor.tokenizer.padding_side = "left"


def single(kit: Kit, text: str, images: list[Any]) -> Any:
    return kit.processor(text=[text], images=images or None, return_tensors="pt")


def new_tokens(kit: Kit, inputs: Any, **kwargs: Any) -> list[list[int]]:
    settings = {"max_new_tokens": STEPS, "do_sample": False, **kwargs}
    output = kit.model.generate(**inputs, **settings)
    return output[:, inputs["input_ids"].shape[1] :].tolist()


def test_batch_equals_one_at_a_time_and_the_oracle(kit: Kit) -> None:
    """The authors' patch restarts its image index in every row; rows here have two images, none and one."""
    rows = rows_of(kit)
    together = new_tokens(kit, batch_of(kit, rows))
    for got, (text, images) in zip(together, rows, strict=True):
        assert [got] == new_tokens(kit, single(kit, text, images))
        if images:
            assert got == oracle.generate(kit.model, kit.full_inputs(text, images, kit.select(images)), STEPS)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_logits_on_either_padding_side(kit: Kit, side: str) -> None:
    rows = rows_of(kit)
    inputs = batch_of(kit, rows, side)
    with torch.no_grad():
        logits = kit.model(**inputs).logits
        for row, (text, images) in enumerate(rows):
            if not images:
                continue
            expected = oracle.logits(kit.model, kit.full_inputs(text, images, kit.select(images)))
            got = logits[row][inputs["attention_mask"][row].bool()]
            limit = 2e-3 if "qwen3_5" in kit.model_type else 2.5 * TOLERANCE.get(kit.model_type, EXACT)
            assert (got - expected).abs().max() < limit * expected.abs().max()


class Masked:
    """The oracle for decoding strategies: the plain model over the full sequences, dropped tokens masked out.

    Features come from the spelled-out tower; the class's own ``generate`` expands, samples and searches.
    """

    def __init__(self, kit: Kit, rows: list[tuple[str, list[Any]]]) -> None:
        self.kit = kit
        config = kit.model.config
        full = [kit.full_inputs(text, images, kit.select(images)) for text, images in rows]
        length = max(len(row.input_ids) for row in full)
        pad = kit.processor.tokenizer.pad_token_id
        self.ids = torch.full((len(rows), length), pad)
        self.mask = torch.zeros_like(self.ids)
        self.positions = torch.zeros(4, len(rows), length, dtype=torch.long)
        pooled: list[Tensor] = []
        deep: list[list[Tensor]] = []
        with torch.no_grad():
            for i, row in enumerate(full):
                n = len(row.input_ids)
                dropped = oracle.dropped_tokens(row, config.image_token_id)
                self.ids[i, -n:] = row.input_ids
                self.mask[i, -n:] = (~dropped).long()
                self.positions[0, i, -n:] = torch.arange(n)
                self.positions[1:, i, -n:] = oracle.positions(row, config.image_token_id, 2)
                features, levels = oracle.encode(kit.model, row)
                offset = 0
                spread = [[], *([] for _ in levels)]
                for grid, kept in zip(row.image_grid_thw, row.kept, strict=True):
                    total = int(grid.prod()) // 4
                    for target, source in zip(spread, [torch.cat(features), *levels], strict=True):
                        whole = source.new_zeros(total, source.shape[1])
                        whole[kept] = source[offset : offset + len(kept)]
                        target.append(whole)
                    offset += len(kept)
                pooled.append(torch.cat(spread[0]))
                deep.append([torch.cat(level) for level in spread[1:]])
        output = BaseModelOutputWithPooling(pooler_output=tuple(pooled))
        if deep[0]:
            from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

            output = BaseModelOutputWithDeepstackFeatures(
                pooler_output=tuple(pooled), deepstack_features=[tuple(level) for level in zip(*deep, strict=True)]
            )
        self.features = output

    def generate(self, **kwargs: Any) -> list[list[int]]:
        output = type(self.kit.model).generate(
            self.kit.model,
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            mm_encoder_outputs={"image": copy.deepcopy(self.features)},
            max_new_tokens=STEPS,
            **kwargs,
        )
        return output[:, self.ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2},
        {"num_beams": 3, "num_return_sequences": 3},
        {"do_sample": True, "num_return_sequences": 2},
        {"do_sample": True, "num_beams": 2},
        {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
    ],
    ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()),
)
def test_beams_and_sampling_equal_the_masked_model(kit: Kit, settings: dict[str, Any]) -> None:
    """Two rows, one with two images: the same random numbers must give the same sequences."""
    if family_of(kit.model_type).masking_differs:
        # A masked token is not as a missing one, so there is no masked twin: one row at a time is the reference,
        # and test_batch_equals_one_at_a_time ties that to the oracle.
        assert_expanded_rows_equal_single_ones(kit, settings)
        return
    rows = [row for row in rows_of(kit) if row[1]]
    inputs = batch_of(kit, rows)
    settings = {"do_sample": False, **settings}
    torch.manual_seed(7)
    got = new_tokens(kit, inputs, **settings)
    torch.manual_seed(7)
    expected = Masked(kit, rows).generate(**settings)
    assert got == expected
    if settings["do_sample"]:
        torch.manual_seed(8)
        assert new_tokens(kit, inputs, **settings) != expected


def assert_expanded_rows_equal_single_ones(kit: Kit, settings: dict[str, Any]) -> None:
    rows = [row for row in rows_of(kit) if row[1]]
    if settings.get("do_sample"):
        text, images = rows[0]
        torch.manual_seed(7)
        first = new_tokens(kit, single(kit, text, images), **settings)
        torch.manual_seed(7)
        again = new_tokens(kit, single(kit, text, images), **{**settings, "use_cache": True})
        torch.manual_seed(8)
        other = new_tokens(kit, single(kit, text, images), **settings)
        assert first == again != other
        return
    together = new_tokens(kit, batch_of(kit, rows), **settings)
    apart = [tokens for text, images in rows for tokens in new_tokens(kit, single(kit, text, images), **settings)]
    assert together == apart


def test_control_beams_see_the_order_of_images(qwen3: Kit) -> None:
    """The reference is sensitive: exchanging the two images of a row changes what the beams find."""
    kit = qwen3
    text, images = rows_of(kit)[0]
    right = new_tokens(kit, single(kit, text, images), num_beams=2)
    assert new_tokens(kit, single(kit, text, images[::-1]), num_beams=2) != right


def test_static_cache(kit: Kit) -> None:
    inputs = batch_of(kit, [row for row in rows_of(kit) if row[1]])
    assert new_tokens(kit, inputs, cache_implementation="static") == new_tokens(kit, inputs)


def test_second_turn_after_an_image_with_nothing_to_prune(kit: Kit) -> None:
    noise = torch.randint(0, 256, (128, 128, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    first, second = kit.text("image", "What is this?"), kit.text("image", "And this?")
    before, whole = single(kit, first, [noise]), single(kit, first + second, [noise, crop("dark")])
    assert kit.processor.last_report[0].retain_ratio == 1 > kit.processor.last_report[1].retain_ratio
    cache = DynamicCache(config=kit.model.config)
    kit.model.generate(**before, past_key_values=cache, max_new_tokens=1)
    assert new_tokens(kit, whole, past_key_values=cache) == new_tokens(kit, whole)


def test_second_turn_with_a_new_image(kit: Kit) -> None:
    """Continue from a cache: the conversation so far is not encoded again, the new image is."""
    first = kit.text("image", "What is this?")
    second = kit.text("And this? ", "image")
    before = single(kit, first, [crop("form")])
    whole = single(kit, first + second, [crop("form"), crop("dark")])
    expected = oracle.generate(
        kit.model,
        kit.full_inputs(first + second, [crop("form"), crop("dark")], kit.select([crop("form"), crop("dark")])),
        STEPS,
    )
    cache = DynamicCache(config=kit.model.config)
    with torch.no_grad():
        kit.model(**before, past_key_values=cache, use_cache=True)
    calls = count_patches(kit)
    assert new_tokens(kit, whole, past_key_values=cache) == [expected]
    old = len(before["pixel_values"])
    assert calls.pop() == len(whole["pixel_values"]) - old
    assert new_tokens(kit, whole) == [expected]


@pytest.mark.parametrize("pruned", [True, False])
def test_second_turn_of_text_alone(kit: Kit, pruned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pruned:
        monkeypatch.setattr(kit.processor.image_processor, "prune", None)
    kit.model.base_model.rope_deltas = None
    first, second = kit.text("image", "What is this?"), kit.text("Are you sure?")
    before, whole = single(kit, first, [crop("form")]), single(kit, first + second, [crop("form")])
    cache = DynamicCache(config=kit.model.config)
    with torch.no_grad():
        kit.model(**before, past_key_values=cache, use_cache=True)
    expected = new_tokens(kit, whole)
    assert new_tokens(kit, whole, past_key_values=copy.deepcopy(cache)) == expected
    # Without pixels or positions, the stock code continues from what the first call left behind.
    bare = {name: whole[name] for name in ("input_ids", "attention_mask")}
    assert new_tokens(kit, bare, past_key_values=cache) == expected


def test_control_cache_that_ends_inside_an_image(qwen3: Kit) -> None:
    kit = qwen3
    inputs = single(kit, kit.text("image", "What?"), [crop("form")])
    cache = DynamicCache(config=kit.model.config)
    positions = kit.processor.position_ids(inputs)
    bare = {"input_ids": inputs["input_ids"][:, :20], "position_ids": positions[..., :20]}
    with torch.no_grad():
        kit.model(**bare, past_key_values=cache, use_cache=True)
    with pytest.raises(ValueError, match="the cache ends inside an image, at token 20"):
        new_tokens(kit, inputs, past_key_values=cache)


def count_patches(kit: Kit) -> list[int]:
    """Record how many patches the tower is given, once."""
    calls: list[int] = []

    def record(_: Any, args: Any, kwargs: Any) -> None:
        calls.append(len(args[0]))
        handle.remove()

    handle = kit.model.base_model.visual.register_forward_pre_hook(record, with_kwargs=True)
    return calls


def test_chunked_prefill(kit: Kit) -> None:
    """Supported where transformers slices encoded features; older versions must say no, not answer wrongly."""
    inputs = single(kit, *rows_of(kit)[0])
    expected = new_tokens(kit, inputs)
    if Version(transformers.__version__) >= Version("5.23"):
        assert new_tokens(kit, inputs, prefill_chunk_size=50) == expected
    else:
        with pytest.raises((ValueError, RuntimeError)):
            new_tokens(kit, inputs, prefill_chunk_size=50)


def test_compiled_language_model(qwen3: Kit) -> None:
    kit = qwen3
    inputs = single(kit, *rows_of(kit)[2])
    expected = new_tokens(kit, inputs)
    model = enable(copy.deepcopy(kit.model))
    model.model.language_model.compile(backend="aot_eager", dynamic=True)
    output = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    assert output[:, inputs["input_ids"].shape[1] :].tolist() == expected
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        assert torch.allclose(compiled(**inputs).logits, kit.model(**inputs).logits, atol=1e-4)


def test_pipeline(qwen3: Kit) -> None:
    kit = qwen3
    messages = [
        {
            "role": "user",
            "content": [{"type": "image", "image": crop("dark")}, {"type": "text", "text": "What is selected?"}],
        }
    ]
    pipe = pipeline("image-text-to-text", model=kit.model, processor=kit.processor)
    answer = pipe(text=messages, return_full_text=False, max_new_tokens=STEPS, do_sample=False)[0]["generated_text"]
    inputs = kit.processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    expected = kit.processor.batch_decode(new_tokens(kit, inputs), skip_special_tokens=True)[0]
    assert answer == expected
    assert inputs["pixel_values"].shape[0] < inputs["image_grid_thw"].prod()


def test_stock_inputs_on_an_enabled_model_go_the_stock_way(kit: Kit) -> None:
    """Whole images, prepared without pruning, give bit for bit what the model gave before it was enabled."""
    full = kit.full_inputs(*rows_of(kit)[2], kept=[torch.tensor([0])])
    inputs = {
        "input_ids": full.input_ids[None],
        "mm_token_type_ids": (full.input_ids == kit.model.config.image_token_id).int()[None],
        "pixel_values": full.pixel_values,
        "image_grid_thw": full.image_grid_thw,
    }
    with torch.no_grad():
        enabled = kit.model(**inputs).logits
        plain = type(kit.model).forward  # the class's forward runs the same hook, so disable to compare
        from pixelprune.hf import disable

        disable(kit.model)
        try:
            assert torch.equal(kit.model(**inputs).logits, enabled)
            stock = kit.model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
        finally:
            enable(kit.model)
        assert type(kit.model).forward is plain
    assert torch.equal(kit.model.generate(**inputs, max_new_tokens=STEPS, do_sample=False), stock)


@pytest.mark.parametrize("how", ["prompt lookup", "assistant"])
def test_speculative_decoding_is_greedy_decoding(qwen3: Kit, how: str) -> None:
    text = qwen3.text("Look ", "image", " what is the total? total total the total")
    inputs = qwen3.processor(text=[text], images=[crop("form")], return_tensors="pt")
    full = qwen3.full_inputs(text, [crop("form")], qwen3.select([crop("form")]))
    settings: dict[str, Any] = {"prompt_lookup_num_tokens": 3}
    if how == "assistant":
        settings = {"assistant_model": enable(copy.deepcopy(qwen3.model))}
    output = qwen3.model.generate(**inputs, max_new_tokens=10, do_sample=False, **settings)
    assert output[0, inputs["input_ids"].shape[1] :].tolist() == oracle.generate(qwen3.model, full, 10)
    early = qwen3.processor.position_ids(inputs) // 2
    wrong = qwen3.model.generate(**inputs, position_ids=early, max_new_tokens=10, do_sample=False, **settings)
    assert not torch.equal(wrong, output)
