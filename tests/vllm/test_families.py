"""Every family in process: answers and encoder outputs equal to the oracle's, cold and warm, single and batched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from engine_kit import (
    HISTORIES,
    PROMPTS,
    REFERRING,
    SETTINGS,
    Engine,
    engine,
    in_tokens_of,
    prompt_named,
    requests,
    settings_named,
)

from pixelprune.check import oracle
from pixelprune.models.registry import FAMILIES
from pixelprune.vllm import processor

#: Mixtures of experts share processor and tower with another family, which is what histories are a matter of; and
#: recurrent families run in bfloat16, as below.
WITH_HISTORIES = [
    name for name, row in FAMILIES.items() if row.vllm is not None and not row.experts and not row.recurrent
]
ASKED = [(name, setting) for setting in SETTINGS for name in PROMPTS]
#: Root of the mean square error over that of the values: float32 in another order of summation, and bfloat16, which is
#: all that vLLM has on CPUs for the recurrent layers of Qwen3.5.
LIMITS = {"qwen3_5": 0.06, "qwen3_5_moe": 0.06}


@pytest.fixture(scope="module", params=[name for name, row in FAMILIES.items() if row.vllm is not None])
def family(request, models):
    """An engine with no settings of its own."""
    with engine(request.param, models / request.param) as started:
        yield started


def test_answers_equal_the_oracles(family: Engine) -> None:
    """All prompts and thresholds in one batch, then one at a time from warm caches."""
    if family.model_type.startswith("qwen3_5"):  # bfloat16: answers may differ by rounding, so outputs are compared
        return
    got = family.answers(requests(ASKED))
    assert family.wrong(got, ASKED) == []
    assert [family.answers([request])[0] for request in requests(ASKED)] == got
    lengths = {asked: length for asked, (length, _) in zip(ASKED, got, strict=True)}
    for name in PROMPTS:
        assert lengths[name, "none"] > lengths[name, "0"] >= lengths[name, "0.05"]
        assert lengths[name, "none"] > lengths[name, "0.05, lattice"] > lengths[name, "0.05"]
    # The comparison can tell: what is right for one setting is wrong for the other.
    swapped = [(name, "0" if setting == "none" else "none") for name, setting in ASKED]
    assert len(family.wrong(got, swapped)) == len(ASKED)
    whole = [(length, answer) for (length, answer), (_, setting) in zip(got, ASKED, strict=True) if setting == "none"]
    pruned = [(length, answer) for (length, answer), (_, setting) in zip(got, ASKED, strict=True) if setting == "0"]
    assert all(a[1] != b[1] for a, b in zip(whole, pruned, strict=True))


def processed(family: Engine, name: str, settings: dict | None) -> dict:
    """What vLLM's processor makes of a prompt."""
    mm_processor = family.llm.llm_engine.renderer.get_mm_processor()
    request = prompt_named(name).request()
    items = mm_processor.info.parse_mm_data(request["multi_modal_data"])
    return mm_processor(
        in_tokens_of(family.model_type, request["prompt"]), items, hf_processor_mm_kwargs={"pixelprune": settings}
    )


def test_histories_equal_the_oracles(family: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as an agent sends them, from caches that the others have filled; then in one batch."""
    if family.model_type not in WITH_HISTORIES:
        return
    asked = [(name, setting) for setting in REFERRING for name in HISTORIES]
    got = [family.answers([request])[0] for request in requests(asked)]
    assert family.wrong(got, asked) == []
    assert family.answers(requests(asked)) == got
    # The control: keys without those of references, and a screen is found as it was kept after another one.
    monkeypatch.setattr(processor, "_keys_of_references", lambda keys, settings: [{} for _ in keys])
    broken = [family.answers([request])[0] for request in requests(asked)]
    wrong = family.wrong(broken, asked)
    assert {("ab", setting) for setting in REFERRING} | {("a a", setting) for setting in REFERRING} <= set(wrong)
    assert ("a ab", "previous") not in wrong


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        *itertools.product(["one", "two", "margins"], ["none", "0", "0.05"]),
        ("a ab abc", "previous"),
        ("ab abc ab", "any"),
    ],
)
def test_encoder_outputs_and_positions_equal_the_oracles(family: Engine, name: str, setting: str) -> None:
    from vllm.multimodal.inputs import MultiModalFeatureSpec
    from vllm.multimodal.utils import group_and_batch_mm_kwargs

    settings, prompt = settings_named(setting), prompt_named(name)
    inputs = processed(family, name, settings)
    items, places = inputs["mm_kwargs"]["image"], inputs["mm_placeholders"]["image"]
    kept = family.twin.kept_of_row(prompt.images, settings)
    assert [place.length for place in places] == [len(indices) for indices in kept]

    def run(model):
        """Encoder outputs, those with the kept blocks of each image mixed up, and positions."""
        ((_, _, batch),) = group_and_batch_mm_kwargs([("image", item) for item in items])
        with torch.inference_mode():
            features = model.embed_multimodal(**batch)
            if settings is not None:
                # Each block one to the left, where that one is free.
                mixed = [each - (each > torch.arange(len(each))).int() for each in map(torch.from_numpy, kept)]
                batch = {**batch, "pixelprune_kept": torch.cat(mixed)}
            else:
                batch = {**batch, "pixel_values": batch["pixel_values"].flip(0)}
            broken = model.embed_multimodal(**batch)
        specs = [
            MultiModalFeatureSpec(item, "image", str(number), place)
            for number, (item, place) in enumerate(zip(items, places, strict=True))
        ]
        return features, broken, model.get_mrope_input_positions(inputs["prompt_token_ids"], specs)

    ((features, broken, (positions, delta)),) = family.llm.apply_model(run)
    full = family.twin.full_inputs(prompt, kept)
    with torch.no_grad():
        pooled, deep = oracle.encode(family.twin.model.float(), full)
    expected = torch.cat([torch.cat(pooled), *deep], dim=1)

    def error(got):
        return float((torch.cat(list(got)).float() - expected).square().mean().sqrt() / expected.square().mean().sqrt())

    assert error(features) < LIMITS.get(family.model_type, 5e-5)
    assert error(broken) > 4 * error(features)

    image_token = family.twin.model.config.image_token_id
    where = oracle.positions(full, image_token, 2)
    stays = ~oracle.dropped_tokens(full, image_token)
    assert torch.equal(positions, where[:, stays])
    assert int(where.max()) + 1 == len(inputs["prompt_token_ids"]) + delta
    # A page with white margins: the greatest position is not that of a kept token.
    if name == "margins" and setting == "0":
        rows, cols = np.divmod(kept[0], full.image_grid_thw[0, 2] // 2)
        assert max(rows.max(), cols.max()) + 1 < full.image_grid_thw[0, 1:].max() // 2
