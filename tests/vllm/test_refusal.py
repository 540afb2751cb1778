"""Models that prune nothing refuse settings, in process and on a server, and answer what says nothing about them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from engine_kit import FORM, HOLE, engine
from server_kit import data_url, serve

from pixelprune.check.tiny import tiny_tokenizer
from pixelprune.errors import ConfigError
from pixelprune.models.registry import FAMILIES
from pixelprune.vllm import compat
from pixelprune.vllm.plugin import ARCHITECTURES, register

ON = {"pixelprune": {"threshold": 0}}
OFF = {"pixelprune": None}
SIDE = 112
#: Patches of 14, and each is a token.
IMAGE_TOKENS = (SIDE // 14) ** 2
SAID = r"does nothing for LlavaForConditionalGeneration; .* families, without --model-impl transformers: Qwen2-VL, "
#: Weights are drawn when it is loaded, the same each time.
RANDOM = ["--load-format", "dummy", "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> Path:
    """A tiny LLaVA without weights: CLIP and Llama, nothing of Qwen."""
    from transformers import AutoConfig, CLIPImageProcessor, LlavaConfig, LlavaProcessor

    folder = tmp_path_factory.mktemp("models") / "llava"
    tokenizer = tiny_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    tower = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"bos_token_id": None, "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>")}
    config = LlavaConfig(
        vision_config=AutoConfig.for_model("clip_vision_model", image_size=SIDE, patch_size=14, **tower),
        text_config=AutoConfig.for_model("llama", vocab_size=len(tokenizer), **text, **tokens),
        image_token_index=ids("<|image_pad|>"),
        image_seq_length=IMAGE_TOKENS,
        architectures=["LlavaForConditionalGeneration"],
    )
    config.save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        image_token="<|image_pad|>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def request(**settings: Any) -> dict[str, Any]:
    return {"prompt": f"{HOLE}?", "multi_modal_data": {"image": FORM}, "mm_processor_kwargs": settings}


def test_in_process(llava: Path) -> None:
    """The engine answers other requests after each refusal, and "off" is the same request as one without settings."""
    options = {"load_format": "dummy", "mm_processor_kwargs": OFF, "limit_mm_per_prompt": {"image": 1}}
    with engine("llava", llava, **options) as started:
        ((length, answer),) = started.answers([request()])
        assert length > IMAGE_TOKENS
        processor = started.llm.llm_engine.renderer.get_mm_processor()
        for settings, said in (
            (ON, SAID),
            ({"pixelprune": {}}, SAID),
            ({"pixelprune": {"treshold": 0}}, "unknown setting 'treshold'"),
            ({"images_kwargs": ON}, 'inside "images_kwargs"; write it beside'),
        ):
            with pytest.raises(ConfigError, match=said) as error:
                started.answers([request(**settings)])
            assert "\n" not in str(error.value)
            assert started.answers([request(**OFF)]) == [(length, answer)]
        items = processor.info.parse_mm_data({"image": [FORM]})
        keys = [processor(HOLE, items, hf_processor_mm_kwargs=kwargs)["mm_hashes"] for kwargs in ({}, OFF)]
        assert keys[0] == keys[1]


def test_on_a_server(llava: Path, tmp_path: Path) -> None:
    """HTTP 400 in one line; the next request is answered."""
    image = data_url(FORM)
    options = [*RANDOM, "--trust-request-mm-kwargs", "--limit-mm-per-prompt", '{"image": 1}']
    with serve(llava, tmp_path / "log", *options) as server:
        before = server.chat("Total?", (image,))
        assert before[1] > IMAGE_TOKENS
        for _ in range(2):
            with pytest.raises(openai.BadRequestError, match=SAID) as error:
                server.chat("Total?", (image,), mm_processor_kwargs=ON)
            assert error.value.status_code == 400
            assert len(str(error.value)) < 500
            assert server.chat("Total?", (image,), mm_processor_kwargs=OFF) == before
        # Nothing to prune: as for the families that are.
        assert server.chat("Total?", mm_processor_kwargs=ON)[1] < IMAGE_TOKENS
        assert server.chat("Total?", (image,)) == before


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("llava", {"threshold": 0}, "does nothing for LlavaForConditionalGeneration; leave it out"),
        ("qwen3_vl", {"threshold": 7}, "threshold must be a number from 0 to 1"),
    ],
)
def test_settings_of_a_server_end_its_start(llava: Path, models: Path, tmp_path: Path, model, settings, said) -> None:
    """vLLM would take a ValueError at that place for a model without images, and serve text alone."""
    folder = llava if model == "llava" else models / model
    with (
        pytest.raises(RuntimeError, match="the server did not start"),
        serve(folder, tmp_path / "log", *RANDOM, kwargs={"pixelprune": settings}),
    ):
        pass
    (line,) = {line for line in (tmp_path / "log").read_text().splitlines() if "RuntimeError: " in line}
    assert 'mm_processor_kwargs: "pixelprune' in line and said in line


def test_every_model_of_vllm() -> None:
    """A start with settings ends for each class that has a processor and is not ours, and with "off" for none."""
    from types import SimpleNamespace

    from vllm import ModelRegistry
    from vllm.config.multimodal import MultiModalConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY

    register()
    seen, ours = set(), set()
    for architecture in ModelRegistry.get_supported_archs():
        try:
            model = ModelRegistry.models[architecture].load_model_cls()
        except ImportError:  # of a package or an accelerator that is not here
            continue
        if not hasattr(model, "_processor_factory"):
            continue

        def start(settings: Any, model: type = model) -> Any:
            config = MultiModalConfig(mm_processor_kwargs=settings)
            asked = SimpleNamespace(multimodal_config=config, get_multimodal_config=lambda: config)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(MULTIMODAL_REGISTRY, "_get_model_cls", lambda _: model, raising=False)
                return MULTIMODAL_REGISTRY._create_processing_ctx(asked, object())

        assert start(OFF) and start({}) and start(None)
        if architecture in ARCHITECTURES:
            assert start(ON)
            ours.add(architecture)
        else:
            with pytest.raises(RuntimeError, match=f'"pixelprune" does nothing for {model.__name__}; .*Qwen3.5-MoE'):
                start(ON)
            seen.add(architecture)
    assert ours == set(ARCHITECTURES)
    assert len(seen) > 100
    assert {
        "TransformersMultiModalForCausalLM",
        "TransformersMultiModalMoEForCausalLM",
        "PixtralForConditionalGeneration",
    } < seen


def test_every_processing_context_is_made_there() -> None:
    """In vLLM's source no other place makes one, and requests come through ``apply`` of the processor made there."""
    import vllm

    root = Path(vllm.__file__).parent
    texts = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*.py")}
    made = [name for name, text in texts.items() if " InputProcessingContext(" in text.replace("=InputP", "= InputP")]
    assert made == ["multimodal/registry.py"]
    assert texts["multimodal/registry.py"].count("InputProcessingContext(") == 1
    called = [name for name, text in texts.items() if "mm_processor.apply(" in text]
    assert called == ["renderers/base.py"]


def test_installed_twice_and_where_something_is_missing() -> None:
    """Then the log says that other models ignore settings, and everything starts as without the plugin."""
    assert set(compat.NEEDED_TO_REFUSE) <= set(compat.NEEDED)
    code = (
        "import sys\n"
        "from pixelprune.vllm import compat, plugin\n"
        "from vllm.multimodal import MULTIMODAL_REGISTRY\n"
        "if sys.argv[1:]: compat.NEEDED_TO_REFUSE[sys.argv[1]] = {}\n"
        "plugin.register(); plugin.register()\n"
        "print([cls.__name__ for cls in type(MULTIMODAL_REGISTRY).__mro__])"
    )
    for place, classes in (
        ((), "['RefusingRegistry', 'MultiModalRegistry', 'object']"),
        (("vllm.multimodal:Gone",), "['MultiModalRegistry', 'object']"),
    ):
        run = subprocess.run([sys.executable, "-c", code, *place], capture_output=True, text=True, check=True)
        assert run.stdout.splitlines()[-1] == classes
        warned = "models that it does not prune ignore its settings. Missing: vllm.multimodal.Gone" in (
            run.stdout + run.stderr
        )
        assert warned == bool(place)


def test_the_list_is_of_the_registry() -> None:
    from pixelprune.vllm.refusal import SUPPORTED

    assert SUPPORTED.split(", ") == [family.name for family in FAMILIES.values() if family.vllm is not None]
