"""Points in answers, known to be right and known to be wrong."""

from __future__ import annotations

import pytest

from pixelprune.errors import ConfigError
from pixelprune.evaluate.points import inside, parse, scale_of, to_unit

#: A button at the right of the middle of a screen of 1920 x 1080: left, top, right, bottom, from 0 to 1.
BOX = (0.50, 0.40, 0.60, 0.50)


@pytest.mark.parametrize(
    ("answer", "point"),
    [
        ('{"point_2d": [550, 450]}', (550, 450)),
        ('```json\n[{"point_2d": [550, 450], "label": "OK"}, {"point_2d": [1, 2]}]\n```', (550, 450)),
        ("(550,450)", (550, 450)),
        ("[500, 400, 600, 500]", (550, 450)),
        ('{"bbox_2d": [500, 400, 600, 500]}', (550, 450)),
        ("pyautogui.click(x=0.55, y=0.45)", (0.55, 0.45)),
        ('{"x": 550, "y": 450}', (550, 450)),
        ("It is at 550, 450", (550, 450)),
        ('{"point_2d": [550, 450', (550, 450)),
        ("Step 2 of the form is at [550.5, 450]", (550.5, 450)),
        ("I cannot see it.", None),
        ("Row 12", None),
        ("", None),
    ],
)
def test_a_point_is_found_in_an_answer(answer, point) -> None:
    assert parse(answer) == point


@pytest.mark.parametrize(
    ("answer", "scale", "right"),
    [
        ('{"point_2d": [550, 450]}', "thousand", True),
        ('{"point_2d": [500, 500]}', "thousand", True),  # an edge
        ('{"point_2d": [499, 450]}', "thousand", False),
        ('{"point_2d": [450, 550]}', "thousand", False),  # across and down exchanged
        ('{"point_2d": [1056, 486]}', "thousand", False),  # pixels of 1920 x 1080
        ('{"point_2d": [1056, 486]}', "pixels", True),
        ('{"point_2d": [550, 450]}', "pixels", False),
        ("[0.55, 0.45]", "unit", True),
        ("[550, 450]", "unit", False),
        ("no idea", "thousand", False),
    ],
)
def test_points_known_to_be_right_and_wrong(answer, scale, right) -> None:
    assert inside(to_unit(answer, scale, 1920, 1080), BOX) is right


def test_the_scale_is_the_familys() -> None:
    assert scale_of("qwen3_vl") == "thousand" and scale_of("qwen2_5_vl") == "pixels"
    with pytest.raises(ConfigError, match="give points: thousand, pixels or unit"):
        scale_of("llava")
