"""A hook of the site: links to files of the repository, which the site does not hold, lead to the repository."""

from __future__ import annotations

import re
from typing import Any

from pixelprune.errors import REPOSITORY

_OUTSIDE = re.compile(r"\]\(\.\./([^)\s]*)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """``[label](../path)``, which works on the repository's pages, becomes a link to that file there."""
    return _OUTSIDE.sub(rf"]({REPOSITORY}/blob/main/\1)", markdown)
