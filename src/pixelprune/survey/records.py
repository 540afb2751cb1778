"""What a survey is made of: its settings, a row for each image, a line for each problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.config import METRICS
from ..core.limits import DEFAULT_LIMITS, Limits
from ..errors import ConfigError
from ..models.resize import ResizeSpec
from ..models.shape import ModelShape

#: Methods that are measured. ``random`` is a baseline, which keeps as many blocks as ``pred2d``.
METHODS = ("pred2d", "adaptive", "raster", "serpentine", "components")
#: 8-bit threshold levels at which every method is measured.
LEVELS = (0, 5)
#: 8-bit threshold levels at which ``pred2d`` is measured, 0 to 0.2.
CURVE = (0, 2, 5, 12, 25, 51)

#: Lattices at which ``pred2d`` is measured, at every level of :data:`CURVE`, from sparse to dense.
LATTICES = (6, 4, 3, 2)

#: Of the JSON files that surveys are saved in.
FORMAT = 3


def setting_key(method: str, level: int, lattice: int = 0) -> str:
    """The name of a measured setting, ``pred2d@5`` or ``pred2d@5+4``: method, 8-bit threshold level and lattice."""
    return f"{method}@{level}+{lattice}" if lattice else f"{method}@{level}"


#: All measured settings, by :func:`setting_key`.
MEASURED = tuple(
    dict.fromkeys(
        [setting_key("pred2d", level) for level in CURVE]
        + [setting_key(method, level) for method in METHODS for level in LEVELS]
        + [setting_key("pred2d", level, lattice) for level in CURVE for lattice in LATTICES]
    )
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Args:
        model: a name that both :meth:`pixelprune.models.cost.ModelShape.from_config` and
            :meth:`pixelprune.models.resize.ResizeSpec.for_model` know, or a model's folder.
        metric: distance between blocks, as in :class:`pixelprune.PruneConfig`.
        dpi: pixels per inch at which PDF pages are rendered.
        sample: measure this many images only, drawn at random.
        seed: of the sample.
        text_tokens: tokens of a prompt beside the image's, for the projected costs.
        limits: what a file may cost; what exceeds them is a problem, and not measured.

    Raises:
        ConfigError, UnsupportedModelError: a value is not allowed.
    """

    model: str = "Qwen3-VL-2B"
    metric: str = "max"
    dpi: float = 150
    sample: int | None = None
    seed: int = 0
    text_tokens: int = 64
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"metric must be one of {', '.join(METRICS)}; got {self.metric!r}")
        if isinstance(self.dpi, bool) or not isinstance(self.dpi, (int, float)) or not 0 < self.dpi < float("inf"):
            raise ConfigError(f"dpi must be a positive number; got {self.dpi!r}")
        for name, least in (("sample", 1), ("seed", 0), ("text_tokens", 0)):
            value = getattr(self, name)
            if name == "sample" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}; got {value!r}")
        if self.spec.block_size != self.shape.block_size:
            raise ConfigError(
                f"{self.model}: its image processor works in blocks of {self.spec.block_size} pixels, its config in "
                f"blocks of {self.shape.block_size}"
            )

    @cached_property
    def spec(self) -> ResizeSpec:
        """How the model's image processor resizes."""
        return ResizeSpec.for_model(self.model)

    @cached_property
    def shape(self) -> ModelShape:
        """What decides the model's costs."""
        return ModelShape.from_config(self.model)


@dataclass(frozen=True)
class ImageRow:
    """One image.

    Attributes:
        name: its file; ``archive#member``, ``file.pdf#page=N`` or ``file.parquet#row=N`` (both from 1) where that
            holds several.
        group: the folder or archive it is in.
        source, index: the file that holds it, and its number there, from 0.
        width, height: in pixels, as the file has it.
        rows, cols: of the grid of blocks after resizing.
        distinct: distinct blocks.
        kept: blocks kept, by :func:`setting_key`.
        read_ms, resize_ms, select_ms, measure_ms: milliseconds of decoding; of resizing; of selecting once, by
            ``pred2d`` at threshold 0; of all that the survey measured.
    """

    name: str
    group: str
    source: str
    index: int
    width: int
    height: int
    rows: int
    cols: int
    distinct: int
    kept: dict[str, int]
    read_ms: float
    resize_ms: float
    select_ms: float
    measure_ms: float

    @property
    def blocks(self) -> int:
        """Blocks of the image: its tokens without pruning."""
        return self.rows * self.cols

    def retained(self, key: str = "pred2d@0") -> float:
        """Kept blocks over all blocks at a measured setting."""
        return self.kept[key] / self.blocks


@dataclass(frozen=True)
class SequenceRow:
    """Images that follow each other: the pages of a document, or numbered images of a folder or an archive.

    Attributes:
        name: of the document; or that of the images, with ``…`` for their number.
        images: of the sequence.
        measured: its first images, for which the following numbers are.
        blocks: of these.
        alone, referring: blocks that ``pred2d`` keeps at threshold 0, each image alone, and with references to the one
            before it (``references="previous"``).
    """

    name: str
    images: int
    measured: int
    blocks: int
    alone: int
    referring: int

    @property
    def saved(self) -> float:
        """The share of the blocks kept alone that references save."""
        return 1 - self.referring / self.alone


@dataclass(frozen=True)
class Problem:
    """Something that could not be read: its name, and one line that says why."""

    name: str
    error: str


@dataclass(frozen=True)
class Survey:
    """The result: rows and problems in order of their names.

    Attributes:
        inputs: what was asked for, as given.
        settings: what was measured.
        rows: one for each image.
        problems: one for each file, or image in a file, that could not be read.
        skipped: files that were passed over because they are neither images nor hold any.
        seconds: that it took, all runs added up where it was resumed.
        version: of PixelPrune.
        sequences: what references would save in those that were found.
    """

    inputs: list[str]
    settings: Settings
    rows: list[ImageRow]
    problems: list[Problem] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0
    version: str = ""
    sequences: list[SequenceRow] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """The survey as a JSON object, from which :meth:`from_json` makes it again."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Survey:
        """The survey in a JSON object."""
        values = {name: document[name] for name in (item.name for item in fields(cls))}
        settings = dict(values["settings"])
        if "limits" in settings:
            settings["limits"] = Limits(**settings["limits"])
        values["settings"] = Settings(**settings)
        values["rows"] = [ImageRow(**row) for row in values["rows"]]
        values["sequences"] = [SequenceRow(**row) for row in values["sequences"]]
        values["problems"] = [Problem(**problem) for problem in values["problems"]]
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> Survey:
        """Read a survey that was saved as JSON; of a report's other files, the JSON file beside it.

        Raises:
            ConfigError: the file is not there or not a survey.
        """
        file = path if path.suffix == ".json" else path.with_suffix(".json")
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"{file}: no such file; give the JSON file that a survey wrote") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read as JSON ({error})") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ConfigError(f"{file}: not a survey of this version of PixelPrune (format {FORMAT})")
        try:
            return cls.from_json(document)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{file}: not a whole survey ({type(error).__name__}: {error})") from error
