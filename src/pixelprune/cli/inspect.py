"""``pixelprune inspect``: how much of each image is redundant, and a picture of what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.config import PruneConfig
from ..errors import ConfigError, ImageError, PixelPruneError
from . import FAILURE, complain
from ._options import Dpi, with_settings
from ._rows import Failure, Row

if TYPE_CHECKING:
    from PIL import Image

    from ..models.resize import ResizeSpec

# Written into overlays, so that a later run may replace them, and nothing else.
_SIGNATURE = {"Software": "pixelprune inspect"}

# The names in pixelprune.viz.PICTURES, here too so that --help need not import numpy.
_PICTURES = ("overlay", "grid", "flow", "reconstruction", "error")


@with_settings
def inspect(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Images, and PDFs page by page.")],
    *,
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
    """How much of each image would be dropped.

    The time is that of choosing the blocks, without reading and resizing. Exit code 2 if any image failed.
    """
    from . import _report

    spec = _spec(model, block_size)
    if config.references != "none":
        raise ConfigError(f"inspect looks at each image by itself; leave out --references {config.references}")
    if picture not in _PICTURES:
        raise ConfigError(f"--picture must be one of {', '.join(_PICTURES)}; got {picture!r}")
    overlays = None if overlay is None else _Overlays(overlay, picture)
    with _report.progress(len(images)) as show:
        rows, failed = _measure_all(
            images, dpi, show, lambda name, image: _measure(name, image, spec, config, overlays)
        )
    if json:
        sizes = {"block_size": spec.block_size, "min_pixels": spec.min_pixels, "max_pixels": spec.max_pixels}
        _report.print_json(rows, failed, {**config.to_dict(), "model": model, **sizes, "dpi": dpi})
    else:
        _report.print_table(rows, failed, levels=config.max_tokens is not None, lattice=config.lattice > 0)
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
    show: Callable[[str, int], None],
    measure: Callable[[str, Image.Image], Row],
) -> tuple[list[Row], list[Failure]]:
    """Every image of every file. What fails gets its line on stderr and does not stop the others."""
    from ..core.images import open_images
    from ..core.limits import DEFAULT_LIMITS

    rows: list[Row] = []
    failed: list[Failure] = []

    def fail(name: str, error: PixelPruneError) -> None:
        message = str(error) if str(error).startswith(name) else f"{name}: {error}"
        complain(message)
        failed.append(Failure(name, message))

    for path in paths:
        show(path, 0)
        try:
            for name, image in open_images(path, dpi, limits=DEFAULT_LIMITS, refuse=fail):
                show(name, 0)
                try:
                    rows.append(measure(name, image))
                except PixelPruneError as error:
                    fail(name, error)
        except ConfigError:  # the option is wrong, not the file
            raise
        except PixelPruneError as error:
            fail(path, error)
        show(path, 1)
    return rows, failed


def _measure(name: str, image: Image.Image, spec: ResizeSpec, config: PruneConfig, overlays: _Overlays | None) -> Row:
    from ..core.analysis import distinct_ratio
    from ..core.budget import budget_warning
    from ..core.select import select, warm_up

    pixels = spec.resize(image)
    warm_up(config, spec.block_size)
    start = time.perf_counter()
    selection = select(pixels, config, block_size=spec.block_size)
    milliseconds = (time.perf_counter() - start) * 1000
    written = None
    if overlays is not None:
        written = overlays.save(name, overlays.draw(pixels, selection, config))
    return Row(
        name=name,
        width=image.width,
        height=image.height,
        resized_width=pixels.shape[1],
        resized_height=pixels.shape[0],
        blocks=selection.num_blocks,
        kept=selection.num_kept,
        lattice=selection.num_lattice,
        retained=selection.retain_ratio,
        distinct=distinct_ratio(pixels, spec.block_size),
        level=selection.level,
        milliseconds=milliseconds,
        overlay=written,
        warning=budget_warning(selection, config),
    )


class _Overlays:
    """A folder of pictures: a PNG for each image, under the name of its file as far as that is free.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: Path, picture: str) -> None:
        from ..viz import PICTURES

        self.draw = PICTURES[picture]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--overlay {folder}: not a folder that can be written to ({error.strerror})") from error
        self._folder = folder
        self._taken: set[str] = set()

    def save(self, name: str, picture: Image.Image) -> str:
        """Write the picture and return its path."""
        from PIL.PngImagePlugin import PngInfo

        path = self._free_path(name)
        info = PngInfo()
        for key, value in _SIGNATURE.items():
            info.add_text(key, value)
        try:
            picture.save(path, pnginfo=info)
        except OSError as error:
            raise ImageError(f"{name}: the overlay {path} cannot be written ({error.strerror or error})") from error
        return str(path)

    def _free_path(self, name: str) -> Path:
        """Neither another image's overlay of this run, nor a file that is not an overlay."""
        file, _, page = name.rpartition("#page=")
        stem = f"{Path(file).stem}-p{page}" if file and page.isdigit() else Path(name).stem
        count = 1
        while True:
            path = self._folder / (f"{stem}.png" if count == 1 else f"{stem}-{count}.png")
            # Some file systems do not tell upper from lower case.
            if str(path).casefold() not in self._taken and (not path.exists() or _is_overlay(path)):
                self._taken.add(str(path).casefold())
                return path
            count += 1


def _is_overlay(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return all(image.info.get(key) == value for key, value in _SIGNATURE.items())
    except Exception:  # not an image at all, or a broken one
        return False
