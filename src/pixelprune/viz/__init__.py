"""Pictures of a selection, a function each: Pillow image (or uint8 array) and selection in, Pillow RGB image out.

All of them leave the image itself free of text: what they say is written on a strip below it.
"""

from .flow import source_flow
from .kept import overlay, token_grid
from .reconstruction import error_map, reconstruction

#: The pictures by the names that the command line and the explorer give them.
PICTURES = {
    "overlay": overlay,
    "grid": token_grid,
    "flow": source_flow,
    "reconstruction": reconstruction,
    "error": error_map,
}

__all__ = ["PICTURES", "error_map", "overlay", "reconstruction", "source_flow", "token_grid"]
