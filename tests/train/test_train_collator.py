"""Batches: what is labelled, what is padded, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from train_kit import answer, load_model, load_processor, row, rows, user, write

from pixelprune.check.tiny import build_tiny
from pixelprune.errors import ConfigError, DataError, UnsupportedModelError
from pixelprune.hf.kept import KEPT
from pixelprune.train import ChatCollator, Conversations, parse_row
from pixelprune.train.collator import IGNORE


def conversations(pictures: Path, count: int = 6) -> list[Any]:
    return [parse_row(given, f"rows:{number}", pictures) for number, given in enumerate(rows(count), 1)]


def learned(processor: Any, ids: torch.Tensor, labels: torch.Tensor) -> list[str]:
    """The runs of labelled tokens as text."""
    assert torch.equal(labels[labels != IGNORE], ids[labels != IGNORE]), "labels are the ids themselves"
    texts, run = [], []
    for label in [*labels.tolist(), IGNORE]:
        if label != IGNORE:
            run.append(label)
        elif run:
            texts.append(processor.tokenizer.decode(run))
            run = []
    return texts


def test_labels_are_the_answers_and_their_end(processor: Any, pictures: Path) -> None:
    given = row(
        {"role": "system", "content": "Answer It is 5."},
        user("form.png", "It is 5. Is it 5?"),
        answer("It is 5."),
        user("slide.png", "dark.png", "Sure? It is 5."),
        answer("  Yes.\nIt is 5.  "),
    )
    conversation = parse_row(given, folder=pictures)
    encoded = ChatCollator(processor).encode(conversation)
    texts = ["It is 5.<|im_end|>", "  Yes.\nIt is 5.  <|im_end|>"]
    assert learned(processor, encoded.input_ids, encoded.labels) == texts
    last = ChatCollator(processor, last_answer=True).encode(conversation)
    assert learned(processor, last.input_ids, last.labels) == texts[1:]
    assert torch.equal(last.input_ids, encoded.input_ids)


#: Drops the thoughts of earlier turns, strips what is said, and opens the last answer with an empty thought.
THINKING = (
    "{% for m in messages %}{% set text = m['content'] | map(attribute='text') | join if m['role'] == 'assistant' "
    "else '' %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ text | trim }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)


def test_labels_where_the_template_treats_the_last_answer_otherwise(processor: Any, pictures: Path) -> None:
    processor.tokenizer.chat_template = processor.chat_template = THINKING
    given = row(user("form.png", "a?"), answer(" one\n"), user("b?"), answer("two "))
    encoded = ChatCollator(processor).encode(parse_row(given, folder=pictures))
    text = processor.tokenizer.decode(encoded.input_ids)
    assert "assistant\none<|im_end|>" in text and "assistant\n<think>\n\n</think>\n\ntwo<|im_end|>" in text
    assert learned(processor, encoded.input_ids, encoded.labels) == ["one<|im_end|>", "two<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{% for m in messages %}{{ m['role'] }}: {{ m['content'][-1]['text'] | upper }}<|im_end|>{% endfor %}",
         DataError, "the chat template does not render answer 1 as it is"),
        ("{% for m in messages %}{{ m['content'][-1]['text'] }}\n{% endfor %}",
         UnsupportedModelError, "does not end an answer with a special token"),
        ("{{ raise_exception('no such thing') }}", DataError, "the chat template refuses the conversation"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_followed(processor: Any, template: str, error: type, message: str) -> None:
    processor.tokenizer.chat_template = processor.chat_template = template
    with pytest.raises(error, match=message):
        ChatCollator(processor).encode(parse_row(row(user("a?"), answer("one")), "rows.jsonl:3"))


def test_what_is_no_fault_of_a_row_is_not_skipped(processor: Any, pictures: Path) -> None:
    few = write(pictures / "template.jsonl", rows(3))
    collator = ChatCollator(processor, max_length=1)
    with pytest.raises(DataError, match="no good row in"):
        Conversations([few], prepare=collator.encode, skip_bad_rows=True)[0]
    template = "{% for m in messages %}{{ m['content'][-1]['text'] }}\n{% endfor %}"
    processor.tokenizer.chat_template = processor.chat_template = template
    text = write(pictures / "text.jsonl", [row(user("a?"), answer("one"))])
    with pytest.raises(UnsupportedModelError, match="does not end an answer"):
        Conversations([text], prepare=collator.encode, skip_bad_rows=True)[0]


def test_a_batch_is_its_rows_padded_on_the_right(processor: Any, pictures: Path) -> None:
    given = conversations(pictures)
    collator = ChatCollator(processor)
    batch = collator(given)
    assert next(iter(batch)) == "input_ids", "what looks for the size of a batch takes the first key"
    assert batch[KEPT].shape == batch["input_ids"].shape and "position_ids" not in batch
    pixels, grids = list(batch["pixel_values"]), list(batch["image_grid_thw"])
    for number, conversation in enumerate(given):
        single = collator([conversation])
        length = single["input_ids"].shape[1]
        assert torch.equal(single["attention_mask"], torch.ones(1, length, dtype=torch.long))
        for key in ("input_ids", "labels", "mm_token_type_ids", "attention_mask"):
            assert torch.equal(batch[key][number, :length], single[key][0])
        assert torch.equal(
            batch[KEPT][number, :length], single[KEPT][0] if KEPT in single else torch.zeros(length, dtype=torch.long)
        )
        assert not batch[KEPT][number, length:].any()
        assert batch["attention_mask"][number, length:].sum() == 0
        assert (batch["labels"][number, length:] == IGNORE).all()
        if "pixel_values" in single:
            assert torch.equal(torch.stack(pixels[: len(single["pixel_values"])]), single["pixel_values"])
            del pixels[: len(single["pixel_values"])], grids[: len(single["image_grid_thw"])]
    assert not pixels and not grids


def test_rows_are_what_the_processor_makes_of_them(processor: Any, pictures: Path) -> None:
    """Against the processor's own padded batch: ids, kept blocks, pixels, for rows with and without images."""
    given = conversations(pictures)
    batch = ChatCollator(processor)(given)
    texts = [processor.apply_chat_template(conversation.messages, tokenize=False) for conversation in given]
    images = [[Image.open(path) for path in conversation.images] for conversation in given]
    processor.tokenizer.padding_side = "right"
    expected = processor(text=texts, images=images, padding=True, return_tensors="pt")
    assert set(batch) == {*expected, "labels"}
    for key, value in expected.items():
        assert torch.equal(batch[key], value), key
    assert not torch.equal(ChatCollator(processor)(given[::-1])["input_ids"], expected["input_ids"])  # control


def test_packed_rows_stand_behind_one_another(processor: Any, pictures: Path) -> None:
    given = conversations(pictures)
    batch = ChatCollator(processor, packing=True)(given)
    singles = [ChatCollator(processor)([conversation]) for conversation in given]
    for key in ("input_ids", "labels", "mm_token_type_ids"):
        assert torch.equal(batch[key], torch.cat([single[key] for single in singles], 1))
    positions = [processor.position_ids(single) for single in singles]
    assert torch.equal(batch["position_ids"], torch.cat(positions, 2))
    kept = [single.get(KEPT, torch.zeros_like(single["input_ids"])) for single in singles]
    assert torch.equal(batch[KEPT], torch.cat(kept, 1))
    assert "attention_mask" not in batch and batch["use_cache"] is False
    starts = (batch["position_ids"][0, 0] == 0).nonzero().flatten().tolist()
    assert len(starts) == len(given)
    padded = ChatCollator(processor, packing=True).for_evaluation()(given)
    assert padded["input_ids"].shape[0] == len(given)


@pytest.mark.parametrize("packing", [False, True])
def test_histories_refer_within_their_row(folder: Path, processor: Any, pictures: Path, packing: bool) -> None:
    """Two rows about the same screens: each is whole where it begins, and learns the answers that it has alone."""
    turns = (user("dark.png", "What?"), answer("One."), user("dark.png", "slide.png", "And now?"), answer("The same."))
    given = [parse_row(row(*turns), f"rows:{number}", pictures) for number in (1, 2)]
    alone = ChatCollator(processor)(given)
    processor.prune = processor.prune.replace(references="previous")
    batch = ChatCollator(processor, packing=packing)(given)
    assert [r.kept for r in processor.last_report][1] == 1, "the second screen is the first again"
    assert len(batch["pixel_values"]) < len(alone["pixel_values"])
    single = ChatCollator(processor)([given[0]])
    assert torch.equal(batch["pixel_values"], torch.cat([single["pixel_values"]] * 2))
    model = load_model(folder).eval()
    with torch.no_grad():
        got, expected = model(**batch).logits, model(**single).logits
    rows = got.reshape(2, *expected.shape[1:]) if packing else got
    assert all(float((part - expected[0]).abs().max()) < 1e-4 * float(expected.abs().max()) for part in rows)
    texts = ["One.<|im_end|>", "The same.<|im_end|>"]
    assert learned(processor, single["input_ids"][0], single["labels"][0]) == texts


def test_whole_and_teacher(folder: Path, processor: Any, pictures: Path) -> None:
    """The teacher's batch is that of a processor that prunes nothing, and its labels are the student's."""
    given = conversations(pictures)
    batch = ChatCollator(processor, teacher=True)(given)
    whole = load_processor(folder)
    whole.prune = None
    expected = ChatCollator(whole)(given)
    assert set(batch["teacher"]) == set(expected)
    assert all(torch.equal(batch["teacher"][key], value) for key, value in expected.items())
    student = ChatCollator(processor)(given)
    assert all(torch.equal(batch[key], value) for key, value in student.items())
    assert len(student["pixel_values"]) < len(expected["pixel_values"]), "control: the student sees less"
    assert torch.equal(student["labels"][student["labels"] >= 0], expected["labels"][expected["labels"] >= 0])
    assert processor.prune is not None


def test_a_share_of_the_rows_stays_whole(folder: Path, processor: Any, pictures: Path) -> None:
    """Each row as the one or the other collator makes it; by content, wherever it stands; none in evaluation."""
    given = [parse_row(row(user("form.png", f"Number {n}?"), answer("5")), f"rows:{n}", pictures) for n in range(200)]
    pruned = len(ChatCollator(processor).encode(given[0]).vision["pixel_values"])
    mixed = ChatCollator(processor, unpruned_fraction=0.3)
    seen = [mixed.encode(conversation) for conversation in given]
    whole = [len(encoded.vision["pixel_values"]) > pruned for encoded in seen]
    assert 0.2 < sum(whole) / len(whole) < 0.4
    twin = load_processor(folder)
    twin.prune = None
    for conversation, encoded, is_whole in zip(given[:20], seen, whole, strict=False):
        expected = ChatCollator(twin if is_whole else processor).encode(conversation)
        assert torch.equal(encoded.input_ids, expected.input_ids)
        assert (encoded.kept is None) == (expected.kept is None) == is_whole
        assert is_whole or torch.equal(encoded.kept, expected.kept)
        moved = replace(conversation, where="elsewhere:7")
        assert len(mixed.encode(moved).input_ids) == len(encoded.input_ids)
    assert all(len(mixed.for_evaluation().encode(c).vision["pixel_values"]) == pruned for c in given[:20])
    taught = ChatCollator(processor, unpruned_fraction=0.3, teacher=True)
    pairs = [taught.encode(conversation) for conversation in given[:20]]
    assert [len(e.vision["pixel_values"]) == len(e.teacher.vision["pixel_values"]) for e in pairs] == whole[:20]  # type: ignore
    assert all(len(e.teacher.vision["pixel_values"]) > pruned for e in pairs)
    with pytest.raises(ConfigError, match=r"unpruned_fraction must be between 0 and 1; got 1\.5"):
        ChatCollator(processor, unpruned_fraction=1.5)


def test_long_and_broken_rows_name_their_line(processor: Any, pictures: Path) -> None:
    conversation = conversations(pictures)[0]
    length = len(ChatCollator(processor).encode(conversation).input_ids)
    ChatCollator(processor, max_length=length).encode(conversation)
    with pytest.raises(DataError, match=rf"^rows:1: {length} tokens, more than max_length {length - 1}; raise it"):
        ChatCollator(processor, max_length=length - 1).encode(conversation)
    (pictures / "broken.png").write_bytes((pictures / "form.png").read_bytes()[:400])
    (pictures / "line.png").unlink(missing_ok=True)
    Image.new("RGB", (2000, 4)).save(pictures / "line.png")
    try:
        for name, message in (("broken.png", "damaged or cut off"), ("line.png", "aspect ratio")):
            given = parse_row(row(user(name, "?"), answer("a")), "rows:9", pictures)
            with pytest.raises(DataError, match=f"^rows:9: .*{message}"):
                ChatCollator(processor).encode(given)
        marked = parse_row(row(user("form.png", "<|image_pad|>?"), answer("a")), "rows:9", pictures)
        with pytest.raises(DataError, match=r"^rows:9: the text has 2 image placeholders"):
            ChatCollator(processor).encode(marked)
    finally:
        (pictures / "broken.png").unlink()
        (pictures / "line.png").unlink()


def test_a_turned_photo_is_the_same_by_path_and_as_a_picture(processor: Any, pictures: Path, tmp_path: Path) -> None:
    """One file, one sample: EXIF says how the picture is to be held."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(pictures / "form.png") as form:
        upright = form.convert("RGB")
    upright.save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "plain.png")
    collator = ChatCollator(processor)

    def encoded(image: Any) -> Any:
        content = [{"type": "image", "image": image}, {"type": "text", "text": "?"}]
        return collator.encode({"messages": [{"role": "user", "content": content}, answer("a")]})

    by_path = encoded(str(tmp_path / "turned.png"))
    with Image.open(tmp_path / "turned.png") as picture:
        as_picture = encoded(picture)
    sideways = encoded(str(tmp_path / "plain.png"))
    assert torch.equal(by_path.vision["pixel_values"], as_picture.vision["pixel_values"])
    assert torch.equal(by_path.vision["image_grid_thw"], as_picture.vision["image_grid_thw"])
    assert not torch.equal(by_path.vision["image_grid_thw"], sideways.vision["image_grid_thw"])
    (tmp_path / "cut.png").write_bytes((pictures / "form.png").read_bytes()[:400])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(DataError, match=r"cut\.png: .*truncated"):
        encoded(cut)


def test_what_a_collator_refuses(folder: Path, processor: Any, tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(ConfigError, match="needs a PrunedProcessor; got"):
        ChatCollator(processor.tokenizer)
    with pytest.raises(ConfigError, match="max_length must be at least 1 token; got 0"):
        ChatCollator(processor, max_length=0)
    recurrent = load_processor(build_tiny(tmp_path, "qwen3_5", weights=False))
    with pytest.raises(UnsupportedModelError, match=r"packing is not supported for qwen3_5: its recurrent layers"):
        ChatCollator(recurrent, packing=True)
    plain = ChatCollator(processor).encode(conversations(pictures)[0])
    with pytest.raises(ConfigError, match="encoded without a teacher"):
        ChatCollator(processor, teacher=True)([plain])
