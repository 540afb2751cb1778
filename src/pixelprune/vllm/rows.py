"""The images of one request, in order: with ``references``, one may refer to earlier ones.

vLLM keeps images that it has prepared, and prepares the missing ones alone. Those that a missing image may refer to
travel beside it, as an option of the call under a key of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.config import PruneConfig
from ..core.sequence import reference_numbers
from ..errors import PrunedInputError

#: The key among the options of a call of Hugging Face's processor; its value is a :class:`Row`.
ROW = "pixelprune_row"


@dataclass(frozen=True)
class Row:
    """A part of a request's images, as Hugging Face's processor takes them, in order.

    Attributes:
        images: those to prepare, and those that they may refer to.
        wanted: numbers, in ``images``, of those to prepare, ascending.
    """

    images: list[Any]
    wanted: list[int]


def row_in(options: Mapping[str, object]) -> Row | None:
    """The row that travels with a call; ``None`` where its images are the whole request's."""
    row = options.get(ROW)
    return row if isinstance(row, Row) else None


def row_of(info: Any, items: Any, missing: Sequence[int], config: PruneConfig) -> Row:
    """The missing images of a request and those that they may refer to.

    Args:
        info: the family's ``ProcessingInfo``, which knows how to hand images over.
        items: the request's images, of which those sent as a UUID alone are None.
        missing: their numbers.
        config: the settings.

    Raises:
        PrunedInputError: an image that a missing one may refer to was sent as a UUID alone.
    """
    needed: dict[int, int] = {}  # the image that needs each, by their numbers
    for number in missing:
        for each in (number, *reference_numbers(number, config.references)):
            needed.setdefault(each, number)
    numbers = sorted(needed)
    images = [items[number] for number in numbers]
    for number, image in zip(numbers, images, strict=True):
        if image is None:
            raise PrunedInputError(
                f"image {number} of the request was sent as a UUID alone, but image {needed[number]}, which is not in "
                f'the cache, may refer to it (references="{config.references}"); send its data too'
            )
    parsed = info.parse_mm_data({"image": images}, validate=False)["image"]
    return Row(parsed.get_processor_data()["images"], [numbers.index(number) for number in missing])
