"""Frames: the images of a sequence as a folder of numbered files or a video holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from os import PathLike
from pathlib import Path, PurePosixPath

from PIL import Image

from ..errors import ImageError
from .images import to_rgb
from .limits import DEFAULT_LIMITS, Limits

#: Extensions of the videos that :func:`open_video` is for.
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
#: Frames of a video that are taken per second, as the processors of Qwen-VL models do.
FRAMES_PER_SECOND = 2.0


@cache
def _extensions() -> frozenset[str]:
    Image.init()
    readable = {extension for extension, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    return frozenset(readable - set(VIDEOS) | {".pdf"})


def is_picture(name: str) -> bool:
    """Whether a file, by its name, is an image or a PDF, and neither hidden nor a system's own."""
    path = PurePosixPath(name)
    return path.suffix.lower() in _extensions() and not any(
        part.startswith(".") or part == "__MACOSX" for part in path.parts
    )


def is_video(name: str) -> bool:
    """Whether a file, by its name, is a video."""
    return PurePosixPath(name).suffix.lower() in VIDEOS


def natural(name: str) -> list[str | int]:
    """Sorts page 2 before page 10: text and numbers, taking turns."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]


def frame_files(folder: str | PathLike[str]) -> list[Path]:
    """The images in a folder, not those in folders in it, by their names with numbers in order.

    Raises:
        ImageError: there is none, or the folder cannot be read.
    """
    folder = Path(folder)
    try:
        files = [path for path in folder.iterdir() if is_picture(path.name) and path.is_file()]
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read ({error.strerror or error})") from error
    if not files:
        raise ImageError(f"{folder}: no image in this folder; name one that holds the frames")
    return sorted(files, key=lambda path: natural(path.name))


def open_video(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[str, Image.Image]]:
    """The frames of a video, :data:`FRAMES_PER_SECOND` of them, one at a time in memory. Needs PyAV.

    Yields:
        The name, ``path#time=SECONDS``, and the 8-bit RGB image.

    Raises:
        ImageError: PyAV is missing, the video cannot be decoded, or its frames have more pixels than the limits allow.
    """
    try:
        import av
    except ImportError as error:
        raise ImageError(
            f"{path}: reading a video needs PyAV: pip install av; or extract its frames into a folder, and name that"
        ) from error
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise ImageError(f"{path}: there is no video in this file")
            due = 0.0
            for frame in video.decode(video=0):
                seconds = float(frame.time or 0)
                if seconds < due:
                    continue
                if frame.width * frame.height > limits.page_pixels:
                    raise ImageError(
                        f"{path}: frames of {frame.width} x {frame.height} pixels are more than the limit of "
                        f"{limits.page_pixels}"
                    )
                yield f"{path}#time={seconds:.2f}", to_rgb(frame.to_image())
                due = seconds + 1 / FRAMES_PER_SECOND - 1e-3
    except (av.FFmpegError, OSError) as error:
        raise ImageError(f"{path}: the video cannot be decoded ({error})") from error
