"""Write docs/cli.md, the page of every command and option, from the commands themselves.

python docs/cli_page.py
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
NOTE = "<!-- Written by docs/cli_page.py from the help texts; edit those. -->\n\n"


def render() -> str:
    """The page as typer's own generator makes it."""
    command = [sys.executable, "-m", "typer", "pixelprune.cli._app", "utils", "docs"]
    done = subprocess.run(
        [*command, "--name", "pixelprune", "--title", "Command line"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return NOTE + _whole_summaries(html.unescape(done.stdout)).rstrip() + "\n"


def _whole_summaries(page: str) -> str:
    """The list of commands with the first line of each one's help, which the generator cuts at 45 characters."""
    firsts = dict(re.findall(r"^## `pixelprune (\w+)`\n\n(.+)$", page, re.MULTILINE))
    return re.sub(r"^\* `(\w+)`: .*$", lambda line: f"* `{line[1]}`: {firsts[line[1]]}", page, flags=re.MULTILINE)


if __name__ == "__main__":
    PAGE.write_text(render())
