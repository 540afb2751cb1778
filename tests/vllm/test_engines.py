"""Other ways to run the engine: prefill in chunks, processes of its own with torch.compile, two ranks."""

from __future__ import annotations

import pytest
from engine_kit import PROMPTS, SETTINGS, engine, options, requests

ASKED = [(name, setting) for setting in SETTINGS for name in PROMPTS]


def test_prefill_in_chunks_and_eviction(models) -> None:
    """Chunks of 64 tokens cut through images, also through whole ones; the encoder cache holds about one image."""
    changes = {"max_num_batched_tokens": 64, "enable_chunked_prefill": True, "max_num_seqs": 4}
    with engine("qwen3_vl", models / "qwen3_vl", **changes) as chunked:
        scheduler = chunked.llm.llm_engine.vllm_config.scheduler_config
        assert scheduler.enable_chunked_prefill
        assert scheduler.max_num_batched_tokens == 64
        got = chunked.answers(requests(ASKED))
        assert chunked.wrong(got, ASKED) == []
        assert max(length for length, _ in got) > 5 * 64


@pytest.mark.parametrize("model_type", ["qwen3_vl", "qwen2_5_vl"])
def test_settings_of_the_engine_without_caches(models, model_type) -> None:
    """Settings given to the engine hold for requests that say nothing; null in a request goes over them."""
    folder = models / model_type
    kwargs = {**options(folder)["mm_processor_kwargs"], "pixelprune": {"threshold": 0.02}}
    changes = {"mm_processor_kwargs": kwargs, "enable_prefix_caching": False, "mm_processor_cache_gb": 0}
    with engine(model_type, folder, **changes) as configured:
        silent = [PROMPTS[name].request() for name in PROMPTS]
        off = [PROMPTS[name].request(pixelprune=None) for name in PROMPTS]
        got = configured.answers(silent + off)
        asked = [(name, setting) for setting in ("0.02", "none") for name in PROMPTS]
        assert configured.wrong(got, asked) == []


def test_processes_of_its_own_and_torch_compile(models, monkeypatch) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
    with engine("qwen3_vl", models / "qwen3_vl", enforce_eager=False) as compiled:
        got = compiled.answers(requests(ASKED))
        assert compiled.wrong(got, ASKED) == []


@pytest.mark.parametrize("mode", ["data", "weights"])
def test_two_ranks(models, monkeypatch, mode) -> None:
    """With the encoder's weights split as well, and with whole images shared out over the ranks."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
    changes = {"tensor_parallel_size": 2, "mm_encoder_tp_mode": mode}
    model_type = {"data": "qwen3_vl", "weights": "qwen2_5_vl"}[mode]
    with engine(model_type, models / model_type, **changes) as parallel:
        got = parallel.answers(requests(ASKED))
        assert parallel.wrong(got, ASKED) == []
