"""enable() changes one instance and nothing else, can be undone, and refuses what it cannot vouch for."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from kit import Kit, crop
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from pixelprune.check.tiny import tiny_model
from pixelprune.errors import PrunedInputError, UnsupportedModelError
from pixelprune.hf import FAMILIES, disable, enable, is_enabled
from pixelprune.hf.kept import KEPT
from pixelprune.hf.verify import verify_tower
from pixelprune.models.registry import family_of


@pytest.fixture
def model(qwen3: Kit) -> Any:
    """A fresh copy that is not enabled."""
    return AutoModelForImageTextToText.from_pretrained(qwen3.folder).eval()


@pytest.fixture(scope="module")
def inputs(qwen3: Kit) -> Any:
    return qwen3.processor(text=[qwen3.text("image", "What?")], images=[crop("form")], return_tensors="pt")


def generate(model: Any, inputs: Any) -> list[int]:
    return model.generate(**inputs, max_new_tokens=4, do_sample=False)[0].tolist()


def test_no_class_changes(model: Any) -> None:
    classes = [c for part in model.modules() for c in type(part).__mro__ if c is not object]
    before = [dict(vars(c)) for c in classes]
    hooks = dict(nn.modules.module._global_forward_pre_hooks)
    enable(model)
    assert [dict(vars(c)) for c in classes] == before
    assert dict(nn.modules.module._global_forward_pre_hooks) == hooks
    other = copy.deepcopy(model)
    assert type(other) is type(model)


def test_enable_twice_and_disable_twice(model: Any, inputs: Any) -> None:
    attributes, hooks = set(vars(model)), len(model.model._forward_pre_hooks)
    assert not is_enabled(model)
    assert enable(model) is model and enable(model) is model
    assert is_enabled(model) and len(model.model._forward_pre_hooks) == hooks + 1
    generate(model, inputs)
    assert disable(model) is model and disable(model) is model
    assert not is_enabled(model) and set(vars(model)) == attributes
    assert len(model.model._forward_pre_hooks) == hooks


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_pruned_inputs_fail_loudly_on_a_model_that_is_not_enabled(
    model_type: str, request: pytest.FixtureRequest
) -> None:
    model = tiny_model(model_type)
    kit: Kit = request.getfixturevalue("qwen3")
    size = 4 * family_of(model_type).images.patch_size ** 2
    ids = torch.tensor([[1, *[model.config.image_token_id] * 3, 2]])
    inputs = {
        "input_ids": ids,
        "mm_token_type_ids": (ids == model.config.image_token_id).int(),
        "pixelprune_kept": torch.tensor([[0, 1, 2, 3, 0]]),
        "pixel_values": torch.zeros(12, 3 * 2 * size // 4),
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
    }
    assert kit.model is not model
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        model(**inputs)
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        model.generate(**inputs, max_new_tokens=2)


def test_another_instance_is_untouched(model: Any, inputs: Any) -> None:
    other = copy.deepcopy(model)
    enable(model)
    generate(model, inputs)
    with pytest.raises((RuntimeError, ValueError)):
        generate(other, inputs)


def test_a_deep_copy_is_enabled_by_itself(model: Any, inputs: Any) -> None:
    """A copied instance uses its own weights, also in the generate() it carries."""
    twin = copy.deepcopy(enable(model))
    assert is_enabled(twin)
    expected = generate(model, inputs)
    assert generate(twin, inputs) == expected
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert generate(model, inputs) == expected
    assert generate(twin, inputs) != expected
    disable(twin)
    assert is_enabled(model) and generate(model, inputs) == expected


def test_a_pickled_model_is_enabled_by_itself(model: Any, inputs: Any) -> None:
    twin = pickle.loads(pickle.dumps(enable(model)))
    assert is_enabled(twin) and generate(twin, inputs) == generate(model, inputs)
    disable(model)
    assert is_enabled(twin)
    disable(twin)
    with pytest.raises((RuntimeError, ValueError)):
        generate(twin, inputs)


def test_an_instance_with_a_generate_of_its_own(model: Any) -> None:
    model.generate = own = lambda *args, **kwargs: "own"
    assert disable(model).generate is own
    with pytest.raises(UnsupportedModelError, match=r"has a generate\(\) of its own"):
        enable(model)
    assert not is_enabled(model) and model.generate is own


def test_base_model_first(model: Any, inputs: Any) -> None:
    """enable() on the base model, then on the whole: generate() must come along."""
    expected = generate(enable(copy.deepcopy(model)), inputs)
    enable(model.model)
    enable(model)
    assert generate(model, inputs) == expected
    assert len(model.model._forward_pre_hooks) == 1


def test_base_model_alone(model: Any, inputs: Any) -> None:
    base = AutoModel.from_pretrained(model.config._name_or_path).eval()
    enable(base)
    with torch.no_grad():
        hidden = base(**inputs).last_hidden_state
        expected = enable(model)(**inputs, output_hidden_states=False).logits
        assert torch.allclose(model.lm_head(hidden), expected, atol=1e-5)


def test_wrapped_models(model: Any) -> None:
    compiled = torch.compile(model, backend="eager")
    enable(compiled)
    assert is_enabled(model) and is_enabled(compiled)
    disable(model)
    assert not is_enabled(compiled)
    assert is_enabled(enable(nn.DataParallel(model)).module)


@pytest.mark.parametrize("first", ["offload", "enable"])
def test_offloaded_weights(model: Any, inputs: Any, first: str) -> None:
    """accelerate keeps offloaded weights on the meta device between calls."""
    expected = generate(enable(copy.deepcopy(model)), inputs)
    if first == "enable":
        enable(model)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert next(model.model.visual.parameters()).is_meta
    assert generate(enable(model), inputs) == expected


def test_positional_arguments(model: Any, inputs: Any) -> None:
    enable(model)
    with torch.no_grad():
        expected = model.model(**inputs).last_hidden_state
        rest = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
        got = model.model(inputs["input_ids"], inputs["attention_mask"], **rest).last_hidden_state
        assert torch.equal(got, expected)
        ids = inputs["input_ids"]
        others = {k: v for k, v in inputs.items() if k != "input_ids"}
    assert generate(model, inputs) == model.generate(ids, **others, max_new_tokens=4, do_sample=False)[0].tolist()
    assert (
        generate(model, inputs) == model.generate(inputs=ids, **others, max_new_tokens=4, do_sample=False)[0].tolist()
    )


def test_another_family_is_refused_with_the_list() -> None:
    config = AutoConfig.for_model(
        "bert", hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with pytest.raises(UnsupportedModelError, match=f"'bert' is not supported; supported are {sorted(FAMILIES)[0]}, "):
        enable(AutoModel.from_config(config))
    with pytest.raises(UnsupportedModelError, match="takes a transformers model; got Linear"):
        enable(nn.Linear(1, 1))


def test_language_model_without_a_tower_is_refused(model: Any) -> None:
    del model.model.visual
    with pytest.raises(UnsupportedModelError, match="has no vision tower"):
        enable(model)


class Tower(nn.Module):
    """Wraps a tower and breaks one promise."""

    def __init__(self, tower: Any, fault: str) -> None:
        super().__init__()
        self.inner, self.fault = tower, fault
        self.config, self.dtype = tower.config, tower.dtype
        for name in ("num_grid_per_side", "interpolation_mode", "interpolation_align_corners"):
            setattr(self, name, getattr(tower, name))

    def forward(self, pixels: Any, grid_thw: Any, **kwargs: Any) -> Any:
        precomputed = "position_ids" in kwargs
        if self.fault == "ignores" and precomputed:
            kwargs = {"return_dict": True}
        if self.fault == "mixes" and precomputed:
            kwargs["cu_seqlens"] = kwargs["cu_seqlens"][[0, -1]]
        if self.fault == "rotates" and precomputed:
            kwargs["position_ids"] = kwargs["position_ids"].flip(0)
        output = self.inner(pixels, grid_thw=grid_thw, **kwargs)
        if self.fault == "rounds":
            by = 0.02 * pixels.mean().sign() if pixels.mean().abs() > 0.1 else 0
            output.pooler_output = output.pooler_output + by * output.pooler_output.abs().max()
        if self.fault == "constant":
            output.pooler_output = torch.zeros_like(output.pooler_output)[:1].expand(len(pixels) // 4 + 1, -1)
        return output


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("ignores", "does not take precomputed inputs"),
        ("mixes", "gives other features|mixes the images"),
        ("rotates", "gives other features"),
        ("constant", "does not take precomputed inputs"),
    ],
)
def test_a_tower_that_does_not_honour_precomputed_inputs_is_refused(model: Any, fault: str, reason: str) -> None:
    verify_tower(model.model, family_of("qwen3_vl"))
    model.model.visual = Tower(model.model.visual, fault)
    with pytest.raises(UnsupportedModelError, match=reason):
        enable(model)
    assert not is_enabled(model)


def test_verification_accepts_the_rounding_of_int8_weights_alone(model: Any) -> None:
    """LLM.int8 rounds by what is in the whole batch; that is no reason to refuse a tower, and mixed images are."""
    stock = model.model.visual
    model.model.visual = Tower(stock, "rounds")
    with pytest.raises(UnsupportedModelError, match="mixes the images"):
        enable(model)
    quantised = nn.Parameter(torch.zeros(1, dtype=torch.int8), requires_grad=False)
    for fault in ("rounds", "mixes", "rotates", "ignores"):
        model.model.visual = Tower(stock, fault)
        model.model.visual.register_parameter("quantised", quantised)
        if fault == "rounds":
            verify_tower(model.model, family_of("qwen3_vl"))
            continue
        with pytest.raises(UnsupportedModelError):
            verify_tower(model.model, family_of("qwen3_vl"))


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_verification_accepts_low_precision(model_type: str, dtype: torch.dtype) -> None:
    enable(tiny_model(model_type, dtype=dtype))


def test_weights_on_meta_are_refused(model: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="meta device"):
        enable(model.to("meta"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.pop(KEPT), r"pixelprune_kept, which says which of them are kept, is missing"),
        (lambda i: i.update({KEPT: i[KEPT][0]}), r"must have the rows of input_ids, 1; got shape \(\d+,\)"),
        (lambda i: i.update({KEPT: i[KEPT].repeat(2, 1)}), r"must have the rows of input_ids, 1; got shape \(2, \d+\)"),
        (lambda i: i.update({KEPT: i[KEPT].roll(1, 1)}), r"row 0 of pixelprune_kept has \d+ blocks at other places"),
        (lambda i: i.update({KEPT: i[KEPT][:, :-20]}), r"has \d+ image tokens but row 0 of pixelprune_kept has \d+"),
        (lambda i: i[KEPT].mul_(2), r"does not begin with the first block"),
        (lambda i: i[KEPT].clamp_(max=20), r"do not ascend"),
        (lambda i: i.update(pixel_values=i["pixel_values"][4:]), r"is of \d+ patches but pixel_values has \d+ rows"),
        (lambda i: i.update(image_grid_thw=i["image_grid_thw"].repeat(2, 1)), r"has 2 images but .* blocks of 1"),
        (
            lambda i: i.update(image_grid_thw=i["image_grid_thw"] // 4 * 2),
            r"block \d+ in row 0 .* in none of its images",
        ),
        (lambda i: i.update(position_ids=torch.zeros(8, 1, 5)), r"must be \(4, batch, length\) = \(4, 1, \d+\); got"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(qwen3: Kit, inputs: Any, change: Any, message: str) -> None:
    broken = {name: tensor.clone() for name, tensor in inputs.items()}
    change(broken)
    with torch.no_grad(), pytest.raises(PrunedInputError, match=message):
        qwen3.model(**broken)
    with pytest.raises(PrunedInputError, match=message):
        generate(qwen3.model, broken)


def test_embeddings_instead_of_ids_are_refused(qwen3: Kit, inputs: Any) -> None:
    rest = {k: v for k, v in inputs.items() if k != "input_ids"}
    with torch.no_grad(), pytest.raises(PrunedInputError, match="need input_ids beside them"):
        qwen3.model(inputs_embeds=torch.zeros(*inputs["input_ids"].shape, 64), **rest)
