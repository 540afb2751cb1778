"""The command line: one clear line on stderr and exit code 2 for whatever is wrong with the input."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any, NoReturn

from ..errors import PixelPruneError, install_hint

#: Exit code when anything was wrong with the input.
FAILURE = 2

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130


def main() -> NoReturn:
    """Entry point of ``pixelprune``."""
    _set_up_process()
    try:
        from ._app import Abort, app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        fail(f"the command line needs {error.name}: {install_hint('cli')}")
    try:
        result = app(standalone_mode=False, prog_name="pixelprune")
    except PixelPruneError as error:
        fail(str(error))
    except (KeyboardInterrupt, Abort):
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not hasattr(error, "format_message"):  # only the parser's own errors have it
            raise
        fail(_usage(error))
    sys.exit(result if isinstance(result, int) else 0)


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    print(f"pixelprune: {' '.join(message.splitlines())}", file=sys.stderr)


def fail(message: str) -> NoReturn:
    """One line on stderr and exit code 2."""
    complain(message)
    sys.exit(FAILURE)


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "pixelprune"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message} (see {command} --help)"


def _set_up_process() -> None:
    """What every command changes for the whole process."""
    # File names may hold bytes that the terminal's encoding cannot show: escape these instead of failing.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # An image with broken metadata is read all the same, or it is an error with a line of its own.
    warnings.filterwarnings("ignore", module=r"PIL\.")
