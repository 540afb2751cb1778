"""A real server under load: 16 threads of the OpenAI client, mixed requests, every answer as when asked alone."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from engine_kit import BLOCKS, BYTES, CHART, DARK, FORM, HISTORIES, REFERRING, margins, screen, twin
from server_kit import Server, data_url, serve

SIZE = {"shortest_edge": 3136, "longest_edge": BLOCKS * 32 * 32}
PICTURES = [FORM, CHART, DARK, margins()]
OFF = {"pixelprune": None}


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    """With threshold 0 for requests that say nothing, and caches on."""
    log = tmp_path_factory.mktemp("server") / "log"
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "16"]
    options += ["--limit-mm-per-prompt", '{"image": 3, "video": 0}', "--mm-processor-cache-gb", "0.1"]
    options += ["--enable-prefix-caching", "--trust-request-mm-kwargs"]
    # A small key-value cache: its pages become resident as they are written to, which would look like a leak.
    options += ["--num-gpu-blocks-override", "256"]
    kwargs = {"size": SIZE, "pixelprune": {"threshold": 0}}
    with serve(models / "qwen3_vl", log, *options, kwargs=kwargs) as running:
        yield running


def well_formed(count: int) -> list[dict[str, Any]]:
    """Texts, crops, one or two images, histories of screens, settings: drawn anew with the same seed each time."""
    rng = random.Random(0)
    crops = [
        data_url(picture.crop((0, 0, picture.width - 8 * i, picture.height - 12 * i)))
        for picture in PICTURES
        for i in range(4)
    ]
    kwargs = [{}, {}, OFF, {"pixelprune": {"threshold": 0.02}}, {"pixelprune": {"threshold": 0.05}}]
    kwargs += [{"pixelprune": {"method": "adaptive", "max_tokens": 120}}]
    histories = [tuple(data_url(screen(state)) for state in history.split()) for history in HISTORIES]
    referring = [{"pixelprune": settings} for settings in (*REFERRING.values(), {})]
    drawn = []
    for number in range(count):
        request: dict[str, Any] = {"text": f"Question {number % 50}?"}
        if number % 8:  # every eighth is text alone
            request["images"] = tuple(rng.choices(crops, k=rng.choice([1, 1, 2])))
            request["mm_processor_kwargs"] = rng.choice(kwargs)
        if number % 4 == 1:
            request["images"] = rng.choice(histories)
            request["mm_processor_kwargs"] = rng.choice(referring)
        drawn.append(request)
    return drawn


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"mm_processor_kwargs": {"pixelprune": {"threshold": 7}}}, "threshold must be a number from 0 to 1"),
    ({"mm_processor_kwargs": {"pixelprune": {"treshold": 0}}}, "unknown setting 'treshold'; did you mean 'threshold'?"),
    ({"mm_processor_kwargs": {"pixelprune": "on"}}, "the settings must be a mapping"),
    ({"mm_processor_kwargs": {"pixelprune": {"max_tokens": 0}}}, "max_tokens must be a whole number"),
    ({"mm_processor_kwargs": {"pixelprune": {"references": "last"}}}, "references must be one of none, previous"),
    ({"images": ("data:image/png;base64,AAAA",)}, ""),
]


def ask(server: Server, request: dict[str, Any], **extra: Any) -> Any:
    """The answer, or the status code of the refusal."""
    try:
        return server.chat(**{**request, **extra})
    except openai.APIStatusError as error:
        return error.status_code


def wave(server: Server, asked: list[dict[str, Any]]) -> list[Any]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda request: ask(server, request), asked))


def test_a_wrong_setting_is_a_400_that_says_what_was_wrong(server: Server) -> None:
    good = {"text": "Total?", "images": (data_url(FORM),)}
    for change, message in BROKEN[:-1]:
        with pytest.raises(openai.BadRequestError) as error:
            server.chat(**{**good, **change})
        assert error.value.status_code == 400
        assert message in str(error.value)
        assert len(str(error.value)) < 500
    server.chat(**good)


def test_usage_shows_the_tokens_and_answers_are_the_oracles(server: Server, models) -> None:
    """Through the chat template, against the oracle, which gets the text that the template makes."""
    reference = twin("qwen3_vl", models / "qwen3_vl")
    lengths = []
    for settings in (None, {"threshold": 0}, {"threshold": 0.05}):
        reply = server.client.chat.completions.create(
            model="tiny",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": data_url(FORM)}},
                        {"type": "text", "text": "What is the total?"},
                    ],
                }
            ],
            temperature=0,
            max_tokens=16,
            extra_body={
                "ignore_eos": True,
                "allowed_token_ids": BYTES,
                "mm_processor_kwargs": {"pixelprune": settings},
                "return_token_ids": True,
            },
        )
        given = reply.choices[0].token_ids
        assert (reply.usage.prompt_tokens, given) == reference.answer("one", settings, given)
        assert len(given) == 16
        lengths.append(reply.usage.prompt_tokens)
    assert lengths[0] > lengths[1] > lengths[2]


def test_under_load(server: Server) -> None:
    """200 requests from 16 threads, twice; malformed ones among them; then each alone, past the prefix cache."""
    asked = well_formed(200)
    for number in range(10, 200, 20):  # ten malformed ones
        change, _ = BROKEN[number // 20 % len(BROKEN)]
        asked[number] = {"text": "?", "images": (data_url(FORM),), **change}
    malformed = set(range(10, 200, 20))
    first = wave(server, asked)
    assert {number for number, answer in enumerate(first) if answer == 400} == malformed
    assert all(isinstance(answer, tuple) for number, answer in enumerate(first) if number not in malformed)
    memory = server.memory()

    hits = server.metric("vllm:prefix_cache_hits_total")
    second = wave(server, asked)
    assert server.metric("vllm:prefix_cache_hits_total") > hits
    assert second == first
    prepares, computes = server.memory()
    assert prepares < memory[0] + 30e6
    # vLLM's CPU worker grows by some 40 MB a wave for a while, without the plugin too.
    assert computes < memory[1] + 150e6

    alone = [ask(server, request, cache_salt="alone") for request in asked]
    assert alone == first
    # Answers depend on the settings: the same questions without pruning are answered otherwise.
    with_images = [n for n, r in enumerate(asked) if "images" in r and n not in malformed]
    pruned = [n for n in with_images if asked[n]["mm_processor_kwargs"] != OFF][:20]
    whole = [ask(server, asked[n], mm_processor_kwargs=OFF) for n in pruned]
    assert all(a[1] > first[n][1] for a, n in zip(whole, pruned, strict=True))
    assert sum(a[0] != first[n][0] for a, n in zip(whole, pruned, strict=True)) > len(pruned) // 2

    assert 0 < server.metric("pixelprune_kept_blocks_total") < server.metric("pixelprune_blocks_total")
    assert server.metric("pixelprune_images_total") > len(pruned)
    assert "blocks kept" in server.log.read_text()
