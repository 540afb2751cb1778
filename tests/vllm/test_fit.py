"""What the plugin needs of vLLM is checked when a model of ours starts; nothing else is touched."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from pixelprune.vllm import compat, plugin
from pixelprune.vllm.plugin import ARCHITECTURES, register


def test_this_vllm_has_all_of_them() -> None:
    assert compat.find_missing() == []
    compat.check()


@pytest.mark.parametrize(
    ("place", "needed", "said"),
    [
        ("vllm.no_such_module:Class", {}, "vllm.no_such_module.Class"),
        ("vllm.multimodal.hasher:NoSuchClass", {}, "vllm.multimodal.hasher.NoSuchClass"),
        ("vllm.multimodal.hasher:MultiModalHasher", {"no_method": ()}, "MultiModalHasher.no_method"),
        ("vllm.multimodal.hasher:MultiModalHasher", {"hash_kwargs": ("nonsense",)}, "the parameter nonsense of"),
        ("vllm.multimodal.inputs:PlaceholderRange", ("nonsense",), "the parameter nonsense of"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, place, needed, said) -> None:
    monkeypatch.setitem(compat.NEEDED, place, needed)
    with pytest.raises(ImportError, match=compat.installed_version().replace("+", r"\+")) as error:
        compat.check()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_registered_by_name_and_twice() -> None:
    from vllm import ModelRegistry

    register()
    register()
    for architecture in ARCHITECTURES:
        model_class = ModelRegistry._try_load_model_cls(architecture)
        assert model_class.__module__ == "pixelprune.vllm.models"
        assert model_class.__name__ == architecture
        assert model_class.__mro__[2].__module__.startswith("vllm.")
        assert pickle.loads(pickle.dumps(model_class)) is model_class


def test_a_name_that_is_no_architecture() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LlavaForConditionalGeneration'"):
        plugin.LlavaForConditionalGeneration  # noqa: B018


def test_the_models_cannot_be_imported_when_something_is_missing() -> None:
    """So that they do not start; vLLM logs the reason."""
    code = (
        "from pixelprune.vllm import compat, plugin\n"
        "compat.NEEDED['vllm.multimodal.hasher:Gone'] = {}\n"
        "plugin.Qwen2VLForConditionalGeneration"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert (
        f"pixelprune does not fit vLLM {compat.installed_version()}: missing vllm.multimodal.hasher.Gone" in run.stderr
    )


def test_a_module_of_vllm_that_is_gone_is_named_too() -> None:
    code = (
        "import sys; sys.modules['vllm.model_executor.models.qwen3_5'] = None\n"
        "from pixelprune.vllm.plugin import Qwen2VLForConditionalGeneration"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "missing vllm.model_executor.models.qwen3_5.Qwen3_5ForConditionalGeneration;" in run.stderr


def test_importing_the_package_brings_no_vllm_and_no_numba() -> None:
    """numba in particular: vLLM's CPU workers cannot start where it is loaded."""
    code = (
        "import sys, pixelprune, pixelprune.vllm.plugin\n"
        "assert not {'vllm', 'torch', 'transformers', 'numba'} & set(sys.modules)\n"
        "import pixelprune.vllm.models\n"
        "assert 'vllm' in sys.modules and 'llvmlite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
