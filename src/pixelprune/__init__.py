"""PixelPrune: drop the image patches that carry no information before a vision encoder sees them.

Predictive coding on pixels (arXiv 2604.00886): exact or with bounded loss, training-free, positions untouched.

    >>> from pixelprune import PruneConfig, select
    >>> selection = select(image, PruneConfig(threshold=0.0), block_size=32)

The core needs numpy, Pillow and numba. Engines live in ``pixelprune.hf`` and are imported on demand.
"""

from .core.config import PruneConfig
from .core.select import select
from .core.selection import Selection
from .core.selections import Selections
from .core.sequence import select_sequence
from .errors import PixelPruneError

__version__ = "0.1.0"

__all__ = ["PixelPruneError", "PruneConfig", "Selection", "Selections", "select", "select_sequence"]
