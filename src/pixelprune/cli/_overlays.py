"""The folder that ``inspect`` writes its pictures to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, ImageError

if TYPE_CHECKING:
    from PIL import Image

# Written into overlays, so that a later run may replace them, and nothing else.
_SIGNATURE = {"Software": "pixelprune inspect"}


class Overlays:
    """A folder of pictures: a PNG for each image, under the name of its file as far as that is free.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
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
