"""What a visitor looks at: an image, or a page of a PDF, read from an upload that is not kept anywhere else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import reader
from ..core.analysis import distinct_ratio
from ..core.images import find_pages, open_images
from ..errors import ImageError
from ..models.resize import ResizeSpec

#: A page in memory is some tens of MB; the visitor that came first makes room for the one above this many.
MOST_VISITORS = 32


@dataclass
class Sheet:
    """An image as a model sees it. What was computed once is kept.

    Attributes:
        name: of the file, without its folder.
        image: 8-bit RGB.
    """

    name: str
    image: Image.Image
    _resized: dict[ResizeSpec, NDArray[np.uint8]] = field(default_factory=dict, repr=False)
    _distinct: dict[ResizeSpec, float] = field(default_factory=dict, repr=False)
    #: Blocks kept against the level, by everything else that they depend on.
    curves: dict[tuple[object, ...], list[tuple[float, float]]] = field(default_factory=dict, repr=False)

    def pixels(self, spec: ResizeSpec) -> NDArray[np.uint8]:
        """The image as a model's image processor resizes it; uint8 ``(H, W, 3)``.

        Raises:
            ImageError: it is too elongated.
        """
        if spec not in self._resized:
            self._resized[spec] = spec.resize(self.image)
        return self._resized[spec]

    def distinct(self, spec: ResizeSpec) -> float:
        """Distinct blocks over all blocks."""
        if spec not in self._distinct:
            self._distinct[spec] = distinct_ratio(self.pixels(spec), spec.block_size)
        return self._distinct[spec]


@dataclass(frozen=True)
class Document:
    """A file that was taken in, with all its pages rendered.

    Attributes:
        sheets: its pages, at least one.
        more: pages of a PDF beyond those.
    """

    sheets: list[Sheet]
    more: int = 0

    #: Pages of a PDF that are taken in: a page is some 10 MB.
    MOST_PAGES = 20

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> Document:
        """Read an image or a PDF.

        Args:
            path: of the file.
            name: what the visitor knows it by.

        Raises:
            ImageError: it cannot be read; the message says why and speaks of the file by its name alone.
        """
        name = name or path.name
        try:
            count = find_pages(path).total
            if count == 1:
                return cls([Sheet(name, image) for _, image in open_images(path)])
            sheets = [
                Sheet(f"{name}, page {number}", image)
                for number in range(1, min(count, cls.MOST_PAGES) + 1)
                for _, image in open_images(path, pages=[number])
            ]
        except ImageError as error:
            raise ImageError(str(error).replace(str(path), name)) from error
        return cls(sheets, max(0, count - cls.MOST_PAGES))

    @cached_property
    def pages(self) -> int:
        """Pages taken in."""
        return len(self.sheets)


@dataclass
class Place:
    """Where a visitor is: a document, and the page that is shown, from 1."""

    document: Document
    page: int = 1

    @property
    def sheet(self) -> Sheet:
        """The page that is shown."""
        return self.document.sheets[min(max(self.page, 1), self.document.pages) - 1]


class Visitors:
    """What each visitor looks at, under a name that the page's session has; in memory alone."""

    def __init__(self, most: int = MOST_VISITORS) -> None:
        self._most = most
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._lock = Lock()

    def put(self, visitor: str, place: Place) -> None:
        """Let a visitor look at something; the one who has been away longest may have to go."""
        with self._lock:
            self._places[visitor] = place
            self._places.move_to_end(visitor)
            while len(self._places) > self._most:
                self._places.popitem(last=False)

    def get(self, visitor: str) -> Place | None:
        """What a visitor looks at, if anything."""
        with self._lock:
            if visitor in self._places:
                self._places.move_to_end(visitor)
            return self._places.get(visitor)

    def forget(self, visitor: str) -> None:
        """Keep nothing of a visitor who has left."""
        with self._lock:
            self._places.pop(visitor, None)

    def __len__(self) -> int:
        return len(self._places)


def example_files() -> dict[str, Path]:
    """The examples by the name that the page shows, from the package or from the repository beside it."""
    names = {
        "form": "application-form.png",
        "paper": "paper.png",
        "dashboard": "dashboard-dark.png",
        "phone": "phone.png",
    }
    folders: Iterable[Path] = (Path(__file__).with_name("examples"), Path(__file__).parents[3] / "examples" / "images")
    for folder in folders:
        if all((folder / file).is_file() for file in names.values()):
            return {name: folder / file for name, file in names.items()} | {"simple page": reader.EXAMPLE.image}
    return {}
