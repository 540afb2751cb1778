"""The quick forward passes that the reader is trained with equal the stock model's, question by question."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pixelprune.check import oracle
from pixelprune.check.tiny import sharpen
from recipes.tiny_reader import attention, conversation, model, pretrain_pages, tower


@pytest.fixture(scope="module")
def reader():
    made = pretrain_pages.Reader().eval()
    sharpen(made.full, scale=0.08)
    return made


@pytest.fixture(scope="module")
def batch():
    return conversation.make(3, 2, 128, 96, 3)


def stock_pixels(images: torch.Tensor) -> torch.Tensor:
    """Patches as the stock processor lays them out: both temporal slices are the same."""
    patches = tower.patches(images)
    return patches.view(-1, 3, 1, 256).expand(-1, 3, 2, 256).reshape(-1, 1536)


def questions(batch):
    """Every question alone: the line that it stands in, and which of its tokens are the page's or its own."""
    for line, segment in enumerate(batch.segment):
        for number in sorted(set(segment[segment > 0].tolist())):
            yield line, (segment == 0) | (segment == number)


def by_stock_model(reader, batch) -> torch.Tensor:
    """Logits of every question alone, by the stock forward."""
    found = []
    reader.full.model.language_model.set_attn_implementation("sdpa")
    for line, here in questions(batch):
        ids = torch.from_numpy(batch.ids[line][here])[None]
        with torch.no_grad():
            logits = reader.full(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == reader.full.config.image_token_id).int(),
                pixel_values=stock_pixels(torch.from_numpy(batch.images[line : line + 1])),
                image_grid_thw=torch.tensor([[1, batch.images.shape[1] // 16, batch.images.shape[2] // 16]]),
            ).logits[0]
        found.append(logits[torch.from_numpy(batch.wanted[line][here] >= 0)])
    reader.full.model.language_model.set_attn_implementation(attention.NAME)
    return torch.cat(found)


def test_packed_questions_equal_each_alone(reader, batch):
    with torch.no_grad():
        logits, truth, _ = reader(batch)
    wanted = by_stock_model(reader, batch)
    assert truth.tolist() == batch.wanted[batch.wanted >= 0].tolist()
    assert (logits - wanted).abs().max() < 2e-4 * wanted.abs().max()


@pytest.mark.parametrize("fault", ["one sees the other", "positions run on"])
def test_controls_of_packing(reader, batch, fault):
    if fault == "one sees the other":
        broken = dataclasses.replace(batch, segment=np.minimum(batch.segment, 1))
    else:
        broken = dataclasses.replace(batch, positions=batch.positions + (batch.segment == 2) * 7)
    with torch.no_grad():
        logits, _, _ = reader(broken)
    wanted = by_stock_model(reader, batch)
    assert (logits - wanted).abs().max() > 1e-2 * wanted.abs().max()


@pytest.fixture(scope="module")
def pruned():
    """Pages that keep different numbers of blocks, so that one has rows that mean nothing."""
    batch = conversation.make(9, 3, 192, 160, 3, pruned=1.0)
    counts = (batch.kept >= 0).sum(1)
    assert len(set(counts.tolist())) > 1 and counts.max() < 30
    return batch


def by_oracle(reader, batch) -> torch.Tensor:
    """Logits of every question alone, by the slow twin of the pruned model, which shares no code with the tower."""
    image = reader.full.config.image_token_id
    reader.full.model.language_model.set_attn_implementation("sdpa")
    found = []
    for line, here in questions(batch):
        kept = torch.from_numpy(batch.kept[line][batch.kept[line] >= 0])
        pixels = stock_pixels(torch.from_numpy(batch.images[line : line + 1]))
        ids = batch.ids[line][here]
        first = int(np.argmax(ids == image))
        full = np.concatenate([ids[:first], np.full(len(pixels) // 4, image), ids[first + len(kept) :]])
        grid = torch.tensor([[1, batch.images.shape[1] // 16, batch.images.shape[2] // 16]])
        with torch.no_grad():
            logits = oracle.logits(reader.full, oracle.FullInputs(torch.from_numpy(full), pixels, grid, [kept]))
        found.append(logits[torch.from_numpy(batch.wanted[line][here] >= 0)])
    reader.full.model.language_model.set_attn_implementation(attention.NAME)
    return torch.cat(found)


def test_pruned_pages_equal_the_oracle(reader, pruned):
    with torch.no_grad():
        logits, _, dense = reader(pruned)
    wanted = by_oracle(reader, pruned)
    assert (logits - wanted).abs().max() < 2e-4 * wanted.abs().max()
    assert dense.shape[:3] == pretrain_pages.characters(pruned).shape[:3] == (1, (pruned.kept >= 0).sum(), 4)


def test_control_of_pruned_pages(reader, pruned):
    """One block in another's place: the positions no longer fit."""
    kept = pruned.kept.copy()
    kept[0, 0] = next(n for n in range(30) if n not in kept[0])
    with torch.no_grad():
        logits, _, _ = reader(dataclasses.replace(pruned, kept=kept))
    wanted = by_oracle(reader, pruned)
    assert (logits - wanted).abs().max() > 1e-2 * wanted.abs().max()


def test_the_dense_labels_of_pruned_pages_are_those_of_their_blocks(pruned):
    wanted = pretrain_pages.characters(pruned)[0]
    place = 0
    for line, kept in enumerate(pruned.kept):
        for block in kept[kept >= 0]:
            y, x = 2 * (block // 6), 2 * (block % 6)
            patches = [pruned.characters[line, y + dy, x + dx] for dy in (0, 1) for dx in (0, 1)]
            assert np.array_equal(wanted[place].numpy(), np.stack(patches))
            place += 1
    assert place == len(wanted) and wanted.any()


def test_the_quick_tower_equals_the_stock_one(reader, batch):
    visual, images = reader.full.model.visual, torch.from_numpy(batch.images)
    grid = torch.tensor([[1, images.shape[1] // 16, images.shape[2] // 16]] * len(images))
    with torch.no_grad():
        features, deep = tower.encode(visual, images)
        stock = visual(stock_pixels(images), grid)
        flipped, _ = tower.encode(visual, images.flip(2))
    scale = stock.pooler_output.abs().max()
    assert (features.flatten(0, 1) - stock.pooler_output).abs().max() < 5e-4 * scale
    assert (deep[0].flatten(0, 1) - stock.deepstack_features[0]).abs().max() < 5e-4 * scale
    assert (flipped.flatten(0, 1) - stock.pooler_output).abs().max() > 1e-2 * scale


def test_the_tokenizer_gives_back_what_it_reads():
    tok = model.tokenizer()
    for text in ("What is the total?", 'Click "OK".', '{"point_2d": [12, 987]}', "Grüße, 5 €"):
        assert tok.decode(tok(text).input_ids) == text
    assert len(tok('{"point_2d": [12, 987]}').input_ids) == 9
