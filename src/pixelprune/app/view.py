"""What the page shows of a page at some settings: pictures, numbers, the curve, and the code that does the same."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from html import escape
from io import BytesIO
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.config import Method, Metric, PruneConfig, References, threshold_of
from ..core.select import select
from ..core.selection import Selection
from ..core.sequence import SequenceSelector
from ..errors import ConfigError
from ..models.cost import KNOWN_MODELS, Comparison, compare
from ..models.resize import ResizeSpec
from ..models.shape import ModelShape
from ..viz import PICTURES
from ..viz.charts import curve
from .document import Page

MODELS = tuple(KNOWN_MODELS)
#: The slider's end: a threshold of 0.2.
TOP_LEVEL = 51
#: Levels at which the curve is measured.
CURVE_LEVELS = (0, 1, 2, 3, 5, 8, 12, 18, 25, 38, 51)
#: Tokens of text in the prompt that is projected.
TEXT_TOKENS = 64


@dataclass(frozen=True)
class Choice:
    """The settings on the page.

    Attributes:
        level: the threshold in 8-bit levels, 0 to :data:`TOP_LEVEL`.
        method, metric, max_tokens, lattice, references: as in :class:`pixelprune.PruneConfig`.
        model: one of :data:`MODELS`.
        picture: one of :data:`pixelprune.viz.PICTURES`.
    """

    level: int = 0
    method: str = "pred2d"
    metric: str = "max"
    max_tokens: int | None = None
    model: str = MODELS[0]
    picture: str = "overlay"
    lattice: int = 0
    references: str = "none"

    @property
    def config(self) -> PruneConfig:
        """The settings of the selection.

        Raises:
            ConfigError: one is not allowed.
        """
        if not 0 <= self.level <= TOP_LEVEL:
            raise ConfigError(f"the threshold must be 0 to {TOP_LEVEL} levels; got {self.level}")
        return PruneConfig(
            cast(Method, self.method),
            cast(Metric, self.metric),
            threshold_of(self.level),
            max_tokens=self.max_tokens,
            lattice=self.lattice,
            references=cast(References, self.references),
        )

    @property
    def spec(self) -> ResizeSpec:
        """How the model resizes."""
        return ResizeSpec.for_model(self.model)


@dataclass(frozen=True)
class View:
    """A selection of a page, and what it costs.

    Attributes:
        selection: of the resized image by itself.
        shown_before: bool ``(rows, cols)``: its kept blocks that an earlier page shows; None without references.
        cost: of the prefill, whole and pruned, with :data:`TEXT_TOKENS` of text.
        distinct: distinct blocks over all.
        milliseconds: that selecting took.
        patches, patches_kept: of the vision tower.
    """

    selection: Selection
    shown_before: NDArray[np.bool_] | None
    cost: Comparison
    distinct: float
    milliseconds: float
    patches: int
    patches_kept: int

    @property
    def num_kept(self) -> int:
        """Blocks kept, with references if there are any."""
        return self.selection.num_kept - (0 if self.shown_before is None else int(self.shown_before.sum()))

    @property
    def retain_ratio(self) -> float:
        """The same over all blocks."""
        return self.num_kept / self.selection.num_blocks


def look(page: Page, choice: Choice, earlier: Sequence[Page] = ()) -> View:
    """Select, and count.

    Args:
        page: what is shown.
        choice: the settings.
        earlier: the pages that it may refer to, in order, from :meth:`.document.ViewState.earlier`.

    Raises:
        ConfigError, ImageError: the settings or the image do not allow it.
    """
    spec, config = choice.spec, choice.config
    selector = SequenceSelector(config, block_size=spec.block_size)
    for each in earlier:
        selector.add(each.pixels(spec))
    pixels = page.pixels(spec)
    start = time.perf_counter()
    selected = selector.add(pixels)
    milliseconds = (time.perf_counter() - start) * 1000
    counts = selected.alone.num_blocks, len(selected.kept_indices)
    cost = compare(ModelShape.from_config(choice.model), counts, TEXT_TOKENS)
    return View(
        selection=selected.alone,
        shown_before=None if choice.references == "none" else selected.shown_before,
        cost=cost,
        distinct=page.distinct(spec),
        milliseconds=milliseconds,
        patches=cost.full.patches,
        patches_kept=cost.pruned.patches,
    )


def picture_html(page: Page, choice: Choice, view: View) -> str:
    """The chosen picture with a caption, within the page: no file of it is ever written."""
    pixels = page.pixels(choice.spec)
    draw: Callable[..., Image.Image] = PICTURES[choice.picture]
    refers = view.shown_before is not None and choice.picture in ("overlay", "grid")
    picture = draw(pixels, view.selection, choice.config, **({"shown_before": view.shown_before} if refers else {}))
    if choice.picture == "overlay":  # its strip has what the page says in letters that a phone shows
        picture = picture.crop((0, 0, pixels.shape[1], pixels.shape[0]))
    kept = f"{view.retain_ratio:.1%} of the blocks kept"
    size = f"{page.image.width} × {page.image.height} pixels, read at {pixels.shape[1]} × {pixels.shape[0]}"
    return (
        f'<figure class="pp-figure"><img class="pp-picture" src="{data_uri(picture)}" width="{picture.width}" '
        f'height="{picture.height}" alt="{escape(choice.picture)} of {escape(page.name)}: {kept}">'
        f"<figcaption>{escape(page.name)}: {size}; {kept}{_said_of(view, refers)}</figcaption></figure>"
    )


def _said_of(view: View, refers: bool) -> str:
    """What the picture of an image with references shows."""
    if view.shown_before is None:
        return ""
    if not refers:
        return f" with references; the picture is of the image by itself, {view.selection.retain_ratio:.1%} kept"
    before = int(view.shown_before.sum())
    return f", {before:,} more shown by an earlier image, in orange"


def compare_html(page: Page, choice: Choice, view: View) -> str:
    """The image and its reconstruction, one over the other, with a handle between them."""
    pixels = page.pixels(choice.spec)
    before, after = Image.fromarray(pixels), Image.fromarray(view.selection.reconstruct(pixels))
    move = "this.parentNode.style.setProperty('--cut', this.value + '%')"
    return (
        '<div class="pp-compare">'
        f'<img src="{data_uri(after)}" alt="Rebuilt from the kept blocks">'
        f'<img class="pp-before" src="{data_uri(before)}" alt="The image">'
        f'<input type="range" min="0" max="100" value="50" step="any" oninput="{move}" '
        'aria-label="Move between the image and its reconstruction"></div>'
        '<p class="pp-quiet">Left of the line the image, right of it what the kept blocks alone give back.</p>'
    )


def numbers_html(choice: Choice, view: View) -> str:
    """The numbers beside the picture."""
    selection, full, pruned = view.selection, view.cost.full, view.cost.pruned
    level = selection.level
    # A budget may have taken another metric than was chosen.
    other = "" if selection.metric == choice.metric else f" of {selection.metric}"
    referring = [
        ("alone", "without references", f"{selection.num_kept:,}"),
        ("before", "shown by an earlier image", f"{selection.num_kept - view.num_kept:,}"),
    ]
    rows = [
        ("kept", "blocks kept", f"{view.num_kept:,} of {selection.num_blocks:,}"),
        ("lattice", "of them for the lattice alone", f"{selection.num_lattice:,}"),
        *(referring if view.shown_before is not None else []),
        ("retained", "retained", f"{view.retain_ratio:.1%}"),
        ("distinct", "distinct blocks", f"{view.distinct:.1%}"),
        ("threshold", "threshold", f"{threshold_of(level):g} ({level} of 255 levels{other})"),
        ("patches", "patches", f"{view.patches_kept:,} of {view.patches:,}"),
        ("tokens", f"tokens with {TEXT_TOKENS} of text", f"{pruned.tokens:,} of {full.tokens:,}"),
        ("prefill", f"prefill of {choice.model}, projected", f"{full.total_flops / pruned.total_flops:.2f}× less work"),
        ("vit", "vision tower", f"{full.vit_flops / pruned.vit_flops:.2f}×"),
        ("llm", "language model", f"{full.llm_flops / pruned.llm_flops:.2f}×"),
        ("ms", "selecting took", f"{view.milliseconds:.1f} ms"),
    ]
    lines = (
        f'<div><dt>{escape(label)}</dt><dd data-number="{key}">{escape(text)}</dd></div>' for key, label, text in rows
    )
    return f'<dl class="pp-numbers">{"".join(lines)}</dl>'


def curve_html(page: Page, choice: Choice, view: View) -> str:
    """Blocks kept against the threshold, with the point where the settings are."""
    metric = view.selection.metric  # a budget may have taken another than was chosen
    key = (choice.method, metric, choice.lattice, choice.spec)
    if key not in page.curves:
        config = choice.config.replace(metric=metric, max_tokens=None)
        pixels, block = page.pixels(choice.spec), choice.spec.block_size
        page.curves[key] = [
            (value, select(pixels, config.replace(threshold=value), block_size=block).retain_ratio)
            for value in map(threshold_of, CURVE_LEVELS)
        ]
    points = [(value, (ratio,)) for value, ratio in page.curves[key]]
    level = min(view.selection.level, TOP_LEVEL)
    chart = curve([(choice.method, points)], (threshold_of(level), view.selection.retain_ratio))
    return f'<figure class="pp-chart">{chart}</figure>'


def snippets(choice: Choice) -> dict[str, str]:
    """Python, command line and vLLM, doing what the page does."""
    config = choice.config
    default = PruneConfig()
    # The threshold always, and what differs from the defaults.
    settings: dict[str, object] = {"threshold": config.threshold or 0} | {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name != "threshold" and getattr(config, field.name) != getattr(default, field.name)
    }
    given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    hub = f"Qwen/{choice.model}-Instruct"
    return {
        "python": (
            "from transformers import AutoModelForImageTextToText\n"
            "from pixelprune.hf import PrunedProcessor, enable\n\n"
            f'processor = PrunedProcessor.from_pretrained("{hub}", {given})\n'
            f'model = enable(AutoModelForImageTextToText.from_pretrained("{hub}"))\n'
        ),
        "cli": f'pixelprune ask page.png "What is the total?" --model {hub} {options}\n',
        "vllm": f"vllm serve {hub} --mm-processor-kwargs '{json.dumps({'pixelprune': settings})}'\n",
    }


def data_uri(image: Image.Image) -> str:
    """The image within a page. JPEG: within the time that a slider allows, and text stays sharp at this quality."""
    file = BytesIO()
    image.save(file, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
