"""What a visitor looks at: an image, or one of several, read from uploads that are not kept anywhere else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import reader
from ..core.analysis import distinct_ratio
from ..core.frames import frame_files
from ..core.images import find_pages, open_images
from ..core.limits import Limits
from ..errors import ImageError
from ..models.resize import ResizeSpec

#: What an upload may cost: at three bytes a pixel, 180 MB of decoded pixels at most.
UPLOADS = Limits(page_pixels=40_000_000, document_pixels=60_000_000, pages=20)

#: Bytes of decoded pixels, and visitors, that are kept at a time; who has been away longest makes room.
MOST_BYTES = 1 << 30
MOST_SESSIONS = 256


@dataclass
class Page:
    """An image as a model sees it. What was computed once is kept; of the resized image, the latest size alone.

    Attributes:
        name: of the file, without its folder, and the page's number.
        image: 8-bit RGB.
    """

    name: str
    image: Image.Image
    #: As a ``data:`` URI, once the filmstrip has drawn it.
    thumbnail: str = field(default="", repr=False)
    _resized: tuple[ResizeSpec, NDArray[np.uint8]] | None = field(default=None, repr=False)
    _distinct: dict[ResizeSpec, float] = field(default_factory=dict, repr=False)
    #: Blocks kept against the level, by everything else that they depend on.
    curves: dict[tuple[object, ...], list[tuple[float, float]]] = field(default_factory=dict, repr=False)

    def pixels(self, spec: ResizeSpec) -> NDArray[np.uint8]:
        """The image as a model's image processor resizes it; uint8 ``(H, W, 3)``.

        Raises:
            ImageError: it is too elongated.
        """
        resized = self._resized
        if resized is None or resized[0] != spec:
            resized = self._resized = (spec, spec.resize(self.image))
        return resized[1]

    def distinct(self, spec: ResizeSpec) -> float:
        """Distinct blocks over all blocks."""
        if spec not in self._distinct:
            self._distinct[spec] = distinct_ratio(self.pixels(spec), spec.block_size)
        return self._distinct[spec]

    @property
    def nbytes(self) -> int:
        """Bytes of pixels in memory."""
        resized = self._resized
        return 3 * self.image.width * self.image.height + (0 if resized is None else resized[1].nbytes)

    def release(self) -> None:
        """Drop what can be computed again."""
        self._resized = None


@dataclass(frozen=True)
class Document:
    """A file that was taken in, with its pages decoded; or several images in order.

    Attributes:
        pages: at least one.
        refused: what was left out, a line each.
        history: they are images of several files, such as a history of screenshots.
    """

    pages: list[Page]
    refused: tuple[str, ...] = ()
    history: bool = False
    #: Blocks kept of each page at the latest settings that were asked for.
    kept: dict[Hashable, list[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path, name: str | None = None, limits: Limits = UPLOADS) -> Document:
        """Read an image or a document; of a folder, all images in it as a history.

        Args:
            path: of the file.
            name: what the visitor knows it by.
            limits: what it may cost; pages beyond are left out.

        Raises:
            ImageError: it cannot be read; the message says why and speaks of the file by its name alone.
        """
        if path.is_dir():
            return cls.joined([cls.read(file, limits=limits) for file in frame_files(path)], limits)
        name = name or path.name
        refused: list[str] = []

        def say(error: Exception) -> str:
            return str(error).replace(str(path), name)

        try:
            numbered = find_pages(path, limits=limits).total > 1
            pages = [
                Page(label.replace(str(path), name).replace("#page=", ", page ") if numbered else name, image)
                for label, image in open_images(path, limits=limits, refuse=lambda _, error: refused.append(say(error)))
            ]
        except ImageError as error:
            raise ImageError(say(error)) from error
        if not pages:
            raise ImageError(refused[0])
        return cls(pages, tuple(refused))

    @classmethod
    def joined(cls, documents: Sequence[Document], limits: Limits = UPLOADS) -> Document:
        """The pages of several documents in order, as far as they are within the limits together."""
        refused = [line for document in documents for line in document.refused]
        pages: list[Page] = []
        pixels = 0
        for page in (page for document in documents for page in document.pages):
            pixels += page.image.width * page.image.height
            if len(pages) == limits.pages or (pages and pixels > limits.document_pixels):
                refused.append(
                    f"{page.name}: more than {limits.pages} images, or {limits.document_pixels} pixels in all; it and "
                    f"those after it are left out"
                )
                break
            pages.append(page)
        return cls(pages, tuple(refused), history=len(documents) > 1)

    @property
    def nbytes(self) -> int:
        """Bytes of pixels in memory."""
        return sum(page.nbytes for page in self.pages)


@dataclass
class ViewState:
    """A document, and the number of the page that is shown, from 1."""

    document: Document
    number: int = 1

    @property
    def page(self) -> Page:
        """The page that is shown."""
        return self.document.pages[self._index]

    def earlier(self, references: str) -> list[Page]:
        """The pages that the one that is shown may refer to, in order: none, the one before it, and the first."""
        before = self.document.pages[: self._index]
        wanted = {"none": [], "previous": before[-1:], "first+previous": before[:1] + before[1:][-1:]}
        return wanted[references]

    def turn(self, number: int) -> None:
        """Show another page; the others keep nothing that can be computed again."""
        self.number = number
        for page in self.document.pages:
            if page is not self.page:
                page.release()

    @property
    def _index(self) -> int:
        return min(max(self.number, 1), len(self.document.pages)) - 1


class SessionStore:
    """What each visitor looks at, under a name that the browser's session has; in memory alone.

    Args:
        most_bytes: of decoded pixels, over all sessions.
        most_sessions: that are kept.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_sessions: int = MOST_SESSIONS) -> None:
        self._most_bytes, self._most_sessions = most_bytes, most_sessions
        self._states: OrderedDict[str, ViewState] = OrderedDict()
        self._lock = Lock()

    def put(self, session: str, state: ViewState) -> None:
        """Let a session look at something; those that have been away longest may have to go.

        Raises:
            ImageError: it alone is more than all sessions may have.
        """
        if state.document.nbytes > self._most_bytes:
            raise ImageError(
                f"{state.document.nbytes >> 20} MB of pixels are more than the {self._most_bytes >> 20} MB for all "
                f"visitors; scale the image down, or take fewer pages"
            )
        with self._lock:
            self._states[session] = state
            self._make_room(session)

    def get(self, session: str) -> ViewState | None:
        """What a session looks at, if anything."""
        with self._lock:
            if session in self._states:
                self._make_room(session)
            return self._states.get(session)

    def forget(self, session: str) -> None:
        """Keep nothing of a visitor who has left."""
        with self._lock:
            self._states.pop(session, None)

    @property
    def nbytes(self) -> int:
        """Bytes of decoded pixels, over all sessions."""
        return sum(state.document.nbytes for state in list(self._states.values()))

    def __len__(self) -> int:
        return len(self._states)

    def _make_room(self, session: str) -> None:
        """Pages grow when they are looked at, so this is done each time."""
        self._states.move_to_end(session)
        while len(self._states) > self._most_sessions or (len(self._states) > 1 and self.nbytes > self._most_bytes):
            self._states.popitem(last=False)


def example_files() -> dict[str, Path]:
    """The examples by the name that the page shows, from the package or from the repository beside it."""
    names = {
        "form": "application-form.png",
        "paper": "paper.png",
        "dashboard": "dashboard-dark.png",
        "phone": "phone.png",
    }
    packaged, examples = Path(__file__).with_name("examples"), Path(__file__).parents[3] / "examples"
    for folder, screens in ((packaged, packaged / "history"), (examples / "images", examples / "history")):
        if all((folder / file).is_file() for file in names.values()) and screens.is_dir():
            files = {name: folder / file for name, file in names.items()}
            return {**files, "screens": screens, "simple page": reader.EXAMPLE.image}
    return {}
