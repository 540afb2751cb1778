"""Read an upload in a process of its own: a decoder that crashes, or never ends, costs that upload alone."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from ..core.limits import Limits
from ..errors import ImageError
from .document import UPLOADS, Document

#: Uploads that are read at a time, which bounds what decoding takes beside the pages that are kept.
AT_ONCE = 2
#: That one may take.
SECONDS = 60.0


class UploadReader:
    """Reads files that strangers sent.

    Args:
        limits: what a file may cost.
        seconds: that it may take.
    """

    def __init__(self, limits: Limits = UPLOADS, seconds: float = SECONDS) -> None:
        self.limits, self._seconds = limits, seconds
        self._slots = BoundedSemaphore(AT_ONCE)
        # A server process that has loaded what is needed, and forks: a new process costs milliseconds, not an import.
        self._context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        if sys.platform != "win32":
            self._context.set_forkserver_preload([__name__])

    def read(self, path: Path, name: str) -> Document:
        """Read a file; what else arrives waits for its turn, and everything else is answered meanwhile.

        Raises:
            ImageError: it cannot be read, takes too long, or the process that decoded it died.
        """
        with self._slots:
            here, there = self._context.Pipe(duplex=False)
            process = self._context.Process(target=_work, args=(there, path, name, self.limits), daemon=True)
            process.start()
            there.close()
            try:
                if not here.poll(self._seconds):
                    raise ImageError(
                        f"{name}: takes longer than {self._seconds:g} s to read; try fewer or simpler pages"
                    )
                result = here.recv()
            except EOFError:
                raise ImageError(
                    f"{name}: the process that decoded it died (out of memory, or a fault in the decoder)"
                ) from None
            finally:
                here.close()
                process.kill()
                process.join()
        if isinstance(result, str):
            raise ImageError(result)
        document: Document = result
        return document


def _work(there: Connection, path: Path, name: str, limits: Limits) -> None:
    try:
        result: Document | str = Document.read(path, name, limits)
    except ImageError as error:
        result = str(error)
    there.send(result)
