"""What all visitors share, and what each of them looks at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore

from ..core.frames import natural
from ..errors import ImageError
from .answers import Answers
from .document import Document, SessionStore, ViewState
from .uploads import UploadReader

#: The largest file that a visitor may bring if nobody says otherwise, in MB.
MOST_MEGABYTES = 25
MEGABYTE = 1 << 20  # as Gradio counts them where it refuses a file

#: Pictures that are drawn at a time: what is drawn takes memory beside what is kept.
_DRAWN_AT_ONCE = 4


@dataclass(frozen=True)
class Explorer:
    """What all visitors share: the model that answers, the examples; and apart from each other, what each looks at."""

    answers: Answers
    sessions: SessionStore
    examples: dict[str, Path]
    most_megabytes: float
    reader: UploadReader = field(default_factory=UploadReader)
    drawing: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_DRAWN_AT_ONCE))

    def take(self, uploads: Sequence[str] | None) -> Document:
        """Read uploaded files and delete them: one, or several as a history in the order of the numbers in their names.

        Raises:
            ImageError: one is too large, or none can be read.
        """
        paths = sorted(map(Path, uploads or ()), key=lambda path: natural(path.name))
        if not paths:
            raise ImageError("No file came with that.")
        documents: list[Document] = []
        refused: list[str] = []
        try:
            for path in paths[: self.reader.limits.pages + 1]:  # one more, so that it is said what is left out
                try:
                    documents.append(self._read(path))
                except ImageError as error:
                    refused.append(str(error))
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # of this upload alone; not empty if it is not
                    path.parent.rmdir()
        if not documents:
            raise ImageError(refused[0])
        if len(paths) == 1:
            return documents[0]
        joined = Document.joined(documents, self.reader.limits)
        return Document(joined.pages, (*refused, *joined.refused), joined.history)

    def _read(self, path: Path) -> Document:
        megabytes = path.stat().st_size / MEGABYTE
        if megabytes > self.most_megabytes:
            raise ImageError(
                f"{path.name}: {megabytes:.1f} MB are more than the {self.most_megabytes:g} MB that may be"
            )
        return self.reader.read(path, path.name)

    def state(self, session: str) -> ViewState:
        """What a visitor looks at.

        Raises:
            ImageError: nothing any more.
        """
        state = self.sessions.get(session)
        if state is None:
            raise ImageError("Nothing is loaded (any more): take an example, or files of your own.")
        return state
