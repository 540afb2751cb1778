"""``pixelprune inspect``: how much of each image is redundant, and a picture of what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.config import PruneConfig
from ..errors import ConfigError, ImageError, PixelPruneError
from . import FAILURE, complain
from ._options import Dpi, with_settings
from ._overlays import Overlays
from ._rows import Columns, Failure, Reference, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from ..core.selections import SequenceImage
    from ..models.resize import ResizeSpec

# The names in pixelprune.viz.PICTURES, here too so that --help need not import numpy.
_PICTURES = ("overlay", "grid", "flow", "reconstruction", "error")
_PICTURES_OF_SEQUENCES = ("overlay", "grid")


@with_settings
def inspect(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Images, and PDFs page by page; of a sequence folders of numbered frames and videos, too.",
        ),
    ],
    *,
    sequence: Annotated[
        bool,
        typer.Option(
            "--sequence",
            help="All images are one sequence, such as a history of screenshots: as with --references previous.",
        ),
    ] = False,
    overlay: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture NAME.png to this folder for each image.")
    ] = None,
    picture: Annotated[str, typer.Option(help=f"Which picture: {', '.join(_PICTURES)}.")] = "overlay",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
    config: PruneConfig,
    block_size: Annotated[
        int | None, typer.Option(help="Side of a block in pixels.", show_default="the model's")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Resize as this model does: a family, a hub name or a folder. Never downloads.")
    ] = "qwen3_vl",
    dpi: Dpi = 150,
) -> None:
    """How much of each image would be dropped; of a sequence, what earlier images show, too.

    The time is that of choosing the blocks, without reading and resizing. Exit code 2 if any image failed.
    """
    from . import _report

    spec = _spec(model, block_size)
    if sequence and config.references == "none":
        config = config.replace(references="previous")
    sequence = config.references != "none"
    pictures = _PICTURES_OF_SEQUENCES if sequence else _PICTURES
    if picture not in pictures:
        where = " of a sequence" if sequence and picture in _PICTURES else ""
        raise ConfigError(f"--picture{where} must be one of {', '.join(pictures)}; got {picture!r}")
    meter = _Meter(spec, config, None if overlay is None else Overlays(overlay), picture)
    with _report.progress(len(images)) as show:
        failed = _measure_all(images, dpi, sequence, show, meter.add)
    rows = meter.rows
    if json:
        sizes = {"block_size": spec.block_size, "min_pixels": spec.min_pixels, "max_pixels": spec.max_pixels}
        _report.print_json(rows, failed, {**config.to_dict(), "model": model, **sizes, "dpi": dpi})
    else:
        columns = Columns(levels=config.max_tokens is not None, lattice=config.lattice > 0, sequence=sequence)
        _report.print_table(rows, failed, columns)
        if overlay is not None and rows:
            typer.echo(f"wrote {len(rows)} {'picture' if len(rows) == 1 else 'pictures'} to {overlay}")
    for row in rows:
        if row.warning is not None:
            complain(f"{row.name}: {row.warning}")
    if failed:
        raise typer.Exit(FAILURE)


def _spec(model: str, block_size: int | None) -> ResizeSpec:
    from ..models.resize import ResizeSpec

    spec = ResizeSpec.for_model(model)
    if block_size is not None and block_size < 1:
        raise ConfigError(f"--block-size must be at least 1; got {block_size}")
    return spec if block_size is None else replace(spec, patch_size=block_size, merge_size=1)


def _measure_all(
    paths: list[str],
    dpi: float,
    sequence: bool,
    show: Callable[[str, int], None],
    measure: Callable[[str, Image.Image], None],
) -> list[Failure]:
    """Measure every image of every file. What fails gets its line on stderr and does not stop the others."""
    failed: list[Failure] = []

    def fail(name: str, error: PixelPruneError) -> None:
        message = str(error) if str(error).startswith(name) else f"{name}: {error}"
        complain(message)
        failed.append(Failure(name, message))

    for path in paths:
        show(path, 0)
        try:
            for name, image in _images_in(path, dpi, sequence, fail):
                show(name, 0)
                try:
                    measure(name, image)
                except PixelPruneError as error:
                    fail(name, error)
        except ConfigError:  # the option is wrong, not the file
            raise
        except PixelPruneError as error:
            fail(path, error)
        show(path, 1)
    return failed


def _images_in(
    path: str, dpi: float, sequence: bool, fail: Callable[[str, PixelPruneError], None]
) -> Iterator[tuple[str, Image.Image]]:
    """The images of a file; of a sequence, those of a folder of frames or of a video, too."""
    from ..core.frames import frame_files, is_video, open_video
    from ..core.images import open_images
    from ..core.limits import DEFAULT_LIMITS

    if sequence and is_video(path) and Path(path).is_file():
        yield from open_video(Path(path))
    elif sequence and Path(path).is_dir():
        for file in frame_files(Path(path)):
            try:
                yield from open_images(file, dpi, limits=DEFAULT_LIMITS, refuse=fail)
            except ImageError as error:
                fail(str(file), error)
    else:
        yield from open_images(path, dpi, limits=DEFAULT_LIMITS, refuse=fail)


class _Meter:
    """Measures one image after the other; of a sequence it holds only those that later ones may refer to."""

    def __init__(self, spec: ResizeSpec, config: PruneConfig, overlays: Overlays | None, picture: str) -> None:
        from ..core.sequence import SequenceSelector, warm_up

        self.rows: list[Row] = []
        self._spec, self._config, self._overlays, self._picture = spec, config, overlays, picture
        self._selector = SequenceSelector(config, block_size=spec.block_size)
        warm_up(config, spec.block_size)

    def add(self, name: str, image: Image.Image) -> None:
        """Measure an image, draw its picture if wanted, and add its row."""
        from ..core.analysis import distinct_ratio
        from ..core.budget import budget_warning

        pixels = self._spec.resize(image)
        start = time.perf_counter()
        selected = self._selector.add(pixels)
        milliseconds = (time.perf_counter() - start) * 1000
        alone, report = selected.alone, selected.report
        row = Row(
            name=name,
            width=image.width,
            height=image.height,
            resized_width=pixels.shape[1],
            resized_height=pixels.shape[0],
            blocks=report.total,
            alone=report.alone,
            kept=report.kept,
            lattice=alone.num_lattice,
            retained=report.kept / report.total,
            references=[Reference(number, blocks) for number, blocks in report.references.items()],
            distinct=distinct_ratio(pixels, self._spec.block_size),
            level=alone.level,
            metric=alone.metric,
            milliseconds=milliseconds,
            overlay=None if self._overlays is None else self._overlays.save(name, self._draw(pixels, selected)),
            warning=budget_warning(alone, self._config),
        )
        self.rows.append(row)

    def _draw(self, pixels: NDArray[np.uint8], selected: SequenceImage) -> Image.Image:
        from ..viz import PICTURES, overlay, token_grid

        if self._config.references == "none":
            return PICTURES[self._picture](pixels, selected.alone, self._config)
        draw = token_grid if self._picture == "grid" else overlay
        return draw(pixels, selected.alone, self._config, shown_before=selected.shown_before)
