"""The process that fills a cell.

``python -m pixelprune.evaluate.fill FOLDER`` reads the folder's ``cell.json``, has the set's harness ask all rows, and
writes ``result.json``. Killed and started again, it resumes from the journal. It ends when its standard input does, so
that it does not outlive the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from ..errors import ConfigError, PixelPruneError
from .cell import Asking, Cell, read_result


def ask_all(folder: Path) -> None:
    """Ask the rows of the cell of a folder.

    Raises:
        PixelPruneError: the harness, the model or the set cannot be used.
    """
    cell = Cell.from_dict(json.loads((folder / "cell.json").read_text()))
    asking = Asking(cell, folder)
    if cell.set.harness == "lmms-eval":
        from .lmms_eval_run import run
    else:
        from .vlmevalkit import run
    run(asking)
    if read_result(folder) is None:
        raise ConfigError(f"{cell.set.harness} ended without a score; {folder / 'log.txt'} says why")


def _end_with_parent() -> None:
    """End this process when its standard input ends, as it does when the process that started it is killed."""

    def wait() -> None:
        while os.read(0, 1024):  # not through sys.stdin, whose lock would hold up the end of the process
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(folder: Path) -> int:
    """The process of a cell; what goes wrong is its last line."""
    _end_with_parent()
    try:
        ask_all(folder.resolve())
    except PixelPruneError as error:
        print(f"pixelprune: {error}", file=sys.stderr)
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # As a module of the package, not as __main__: harnesses import it under its name.
    from pixelprune.evaluate import fill

    code = fill.main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # engines and harnesses leave threads behind
