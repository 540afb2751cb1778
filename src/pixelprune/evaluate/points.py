"""Points in answers: on the scale that the model writes, and as each harness reads them.

Qwen3-VL and Qwen3.5 write points from 0 to 1000, across and down, whatever the image's size; Qwen2-VL does so too.
Qwen2.5-VL writes pixels of the image as it was resized for it. The harnesses take numbers from 0 to 1 and divide larger
ones by the image's size, so that a right answer from 0 to 1000 scores as wrong.
"""

from __future__ import annotations

import re
from typing import Literal

from ..errors import ConfigError

#: ``thousand``: 0 to 1000. ``pixels``: of the image as the model sees it, resized. ``unit``: 0 to 1.
Scale = Literal["thousand", "pixels", "unit"]

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_BOX = re.compile(r"[\[(]\s*" + r"\s*,\s*".join([_NUMBER] * 4) + r"\s*[\])]")
_PAIR = re.compile(rf"[\[(]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[\])]")
_BARE = re.compile(rf"{_NUMBER}\s*,\s*{_NUMBER}")
_NAMED = re.compile(rf"\bx\W{{0,3}}[=:]\s*{_NUMBER}.{{0,8}}?\by\W{{0,3}}[=:]\s*{_NUMBER}", re.DOTALL)


def scale_of(model_type: str) -> Scale:
    """How models of a family (``model_type`` of their config) write points.

    Raises:
        ConfigError: it is not known; the config file has to say.
    """
    if model_type in ("qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"):
        return "thousand"
    if model_type == "qwen2_5_vl":
        return "pixels"
    raise ConfigError(f"how {model_type} writes points is not known; give points: thousand, pixels or unit")


def parse(answer: str) -> tuple[float, float] | None:
    """The first point of an answer, or the centre of its first box, on the answer's own scale; None if it has none.

    Read are ``[x, y]``, ``(x, y)``, ``[x0, y0, x1, y1]`` and ``x=..., y=...``, wherever they stand, so also in JSON
    such as ``{"point_2d": [512, 30]}``; where there is none of these, two numbers with a comma between them, as in an
    answer that was cut off. Of several, the first one counts.
    """
    found = [match for pattern in (_BOX, _PAIR, _NAMED) if (match := pattern.search(answer))]
    if not found and not (found := [match for match in [_BARE.search(answer)] if match]):
        return None
    numbers = [float(number) for number in min(found, key=lambda match: match.start()).groups()]
    if len(numbers) == 4:
        return (numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2
    return numbers[0], numbers[1]


def to_unit(answer: str, scale: Scale, width: int, height: int) -> tuple[float, float] | None:
    """The point of an answer, from 0 to 1 across and down; None if the answer has none.

    Args:
        answer: the model's.
        scale: on which it writes.
        width, height: of the image as the model saw it, resized; for ``pixels``.
    """
    point = parse(answer)
    if point is None:
        return None
    across, down = {"thousand": (1000, 1000), "pixels": (width, height), "unit": (1, 1)}[scale]
    return point[0] / across, point[1] / down


def inside(point: tuple[float, float] | None, box: tuple[float, float, float, float]) -> bool:
    """Whether there is a point, and within a box (left, top, right, bottom; edges included) on the same scale."""
    return point is not None and box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
