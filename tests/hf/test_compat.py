"""What is missing in transformers is named, when the package is imported or a model is enabled: no wrong answers."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import vision_utils

from pixelprune.check.tiny import tiny_model
from pixelprune.errors import UnsupportedModelError
from pixelprune.hf import FAMILIES, compat, enable
from pixelprune.models.registry import family_of


def missing(model: Any) -> str:
    """What enable() says that this model lacks; it must not have changed the model."""
    with pytest.raises(UnsupportedModelError) as error:
        enable(model)
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"pixelprune does not fit transformers {transformers.__version__}: ")
    assert "Install transformers 5.18 to 5.24" in text
    assert not model.base_model._forward_pre_hooks and "generate" not in vars(model)
    return text.partition("missing ")[2].partition(". Install")[0]


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_family_has_all(model_type: str) -> None:
    model = tiny_model(model_type)
    compat.check_model(model, model.base_model, family_of(model_type))
    compat.check_model(model.base_model, model.base_model, family_of(model_type))
    compiled = torch.compile(model.base_model.visual)
    model.base_model.visual = compiled
    compat.check_model(model, model.base_model, family_of(model_type))


def without(method: Any, name: str) -> Any:
    """A method that swallows one keyword argument which the stock one knows."""

    def swallows(self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop(name, None)
        return method(self, *args, **kwargs)

    signature = inspect.signature(method)
    swallows.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameter for parameter in signature.parameters.values() if parameter.name != name]
    )
    return swallows


def subclass(module: nn.Module, **methods: Any) -> None:
    module.__class__ = type(type(module).__name__, (type(module),), methods)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@pytest.mark.parametrize("name", [*compat.FORWARD])
def test_a_forward_that_lacks_a_parameter(model_type: str, name: str) -> None:
    model = tiny_model(model_type)
    base = model.base_model
    stock = type(base)
    subclass(base, forward=without(stock.forward, name))
    assert missing(model) == f"the parameter {name} of {stock.__name__}.forward"


def test_a_forward_with_neither_name_for_the_cache() -> None:
    model = tiny_model("qwen3_vl")
    stock = type(model.base_model)
    (name,) = set(compat.CACHE) & set(inspect.signature(stock.forward).parameters)
    subclass(model.base_model, forward=without(stock.forward, name))
    assert missing(model) == "the parameter cache or past_key_values of Qwen3VLModel.forward"


@pytest.mark.parametrize("name", compat.ROPE_INDEX)
def test_positions_that_lack_a_parameter(name: str) -> None:
    model = tiny_model("qwen2_5_vl")
    subclass(model.base_model, get_rope_index=without(type(model.base_model).get_rope_index, name))
    assert missing(model) == f"the parameter {name} of Qwen2_5_VLModel.get_rope_index"


def test_no_positions_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen2_vl")
    monkeypatch.delattr(type(model.base_model), "get_rope_index")
    compat._missing.cache_clear()
    try:
        assert "the parameter mm_token_type_ids of Qwen2VLModel.get_rope_index" in missing(model)
    finally:
        compat._missing.cache_clear()


def test_a_generate_without_inputs() -> None:
    model = tiny_model("qwen3_vl")
    subclass(model, generate=without(type(model).generate, "inputs"))
    assert missing(model) == "the parameter inputs of Qwen3VLForConditionalGeneration.generate"


def test_a_generate_that_does_not_know_encoded_images() -> None:
    """Such as transformers 5.17, where they would be handed on without being expanded for beams."""

    class Mixin:
        def generate(self, inputs: Any = None, **kwargs: Any) -> None: ...

    model = tiny_model("qwen3_vl")
    base = type(model.base_model)
    arguments = (base, type(model.base_model.visual), True, False)
    assert compat._missing(type(model), *arguments) == ()
    assert compat._missing(type("Old", (Mixin,), {}), *arguments) == ("mm_encoder_outputs in Old.generate",)


def test_a_subclass_that_hands_everything_on_is_looked_through() -> None:
    model = tiny_model("qwen3_vl")
    for part in (model, model.base_model, model.base_model.visual):
        stock = type(part)
        subclass(part, forward=lambda self, *args, _stock=stock, **kwargs: _stock.forward(self, *args, **kwargs))
        # the lambda's default above is no parameter of forward
        type(part).forward.__signature__ = inspect.signature(lambda self, *args, **kwargs: None)
    enable(model)


KEYWORDS = [
    ("qwen2_vl", "position_ids", "get_vision_position_ids"),
    ("qwen2_vl", "cu_seqlens", "get_vision_attention_seqlens"),
    ("qwen2_5_vl", "window_index", "get_vision_window_index"),
    ("qwen2_5_vl", "cu_window_seqlens", "get_vision_window_index"),
    ("qwen3_vl", "interp_indices", "get_vision_interpolation_indices_and_weights"),
    ("qwen3_5", "interp_weights", "get_vision_interpolation_indices_and_weights"),
    ("qwen3_5_moe", "position_ids", "get_vision_position_ids"),
    ("qwen3_vl_moe", "cu_seqlens", "get_vision_attention_seqlens"),
]


@pytest.mark.parametrize(("model_type", "keyword", "function"), KEYWORDS)
def test_a_tower_that_does_not_take_a_keyword(
    monkeypatch: pytest.MonkeyPatch, model_type: str, keyword: str, function: str
) -> None:
    """As if transformers had renamed it: the function that takes it out of ``kwargs`` looks for another name."""
    model = tiny_model(model_type)
    tower = type(model.base_model.visual)
    module = inspect.getmodule(tower)
    stock = getattr(vision_utils, function)
    source = inspect.getsource(stock)
    if keyword == "cu_seqlens":  # one function further down
        source = inspect.getsource(vision_utils.get_vision_cu_seqlens) + source
    assert f'"{keyword}"' in source
    scope = {**vars(vision_utils)}
    exec("from __future__ import annotations\n" + source.replace(f'"{keyword}"', '"renamed"'), scope)
    monkeypatch.setattr(module, function, scope[function])
    compat._missing.cache_clear()
    try:
        assert missing(model) == f"the keyword {keyword} of {tower.__name__}.forward"
    finally:
        compat._missing.cache_clear()


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("qwen2_5_vl", "window_size"), *(("qwen3_vl", name) for name in compat.INTERPOLATED_ATTRIBUTES)],
)
def test_a_tower_without_an_attribute(model_type: str, name: str) -> None:
    model = tiny_model(model_type)
    tower = model.base_model.visual
    if name in vars(tower):
        delattr(tower, name)
    else:
        pytest.fail(f"{name} is not an attribute of the instance")
    assert missing(model) == f"the attribute {name} of {type(tower).__name__}"


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ({}, r'needs torch: pip install "pixelprune\[hf\] @ git\+https://'),
        ({"torch": "2.13.0"}, r'needs transformers: pip install "pixelprune\[hf\] @ git\+https://'),
        (
            {"torch": "2.13.0", "transformers": "5.17.2"},
            r"does not fit transformers 5\.17\.2: missing mm_encoder_outputs in forward and generate\. "
            r"Install transformers 5\.18 to 5\.24",
        ),
        ({"torch": "2.13.0", "transformers": "4.57"}, r"does not fit transformers 4\.57: missing mm_encoder_outputs"),
    ],
)
def test_missing_or_old_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], message: str
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise compat.PackageNotFoundError(name)
        return installed[name]

    compat.check_installed()
    monkeypatch.setattr(compat, "version", version)
    with pytest.raises(ImportError, match=message):
        compat.check_installed()


@pytest.mark.parametrize("name", compat.VISION_UTILS)
def test_functions_that_are_gone_or_changed_are_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = f"does not fit transformers {transformers.__version__}: missing "
    monkeypatch.setattr(vision_utils, name, lambda grid_thw, kwargs=None: None)
    with pytest.raises(ImportError, match=said) as error:
        compat.check_installed()
    needed = compat.VISION_UTILS[name][1:]
    assert all(f"the parameter {each} of transformers.vision_utils.{name}" in str(error.value) for each in needed)
    monkeypatch.delattr(vision_utils, name)
    with pytest.raises(ImportError, match=f"{said}transformers.vision_utils.{name}. Install"):
        compat.check_installed()
