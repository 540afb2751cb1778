"""Survey a collection of images: how much of each is redundant, what that saves, and which setting suits them.

    >>> from pixelprune.survey import Settings, run
    >>> survey = run(["scans/"], Settings(model="Qwen3-VL-2B"))

Needs ``pixelprune[survey]``. :mod:`pixelprune.survey.report` turns the result into files.
"""

from .records import ImageRow, Problem, Settings, Survey
from .run import run

__all__ = ["ImageRow", "Problem", "Settings", "Survey", "run"]
