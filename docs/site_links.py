"""A hook of the site: links to files of the repository, which the site does not hold, become their names."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)\s]*)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """``[label](../path)`` reads well on the repository's pages; here it becomes the label and the path."""
    return _OUTSIDE.sub(lambda link: link[1] if link[2] in link[1] else f"{link[1]} (`{link[2]}`)", markdown)
