"""Random images with the structure that the rules look for: repeats, near repeats, stripes, gradients."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pixelprune import PruneConfig
from pixelprune.core.config import METHODS, METRICS, REFERENCES

#: Differences on both sides of the 8-bit levels of THRESHOLDS.
STEPS = (1, 2, 5, 6, 12, 13, 76, 77, 255)
THRESHOLDS = (0, 0.004, 0.02, 0.05, 0.3, 1)
BLOCK_SIZES = (1, 3, 4, 5, 7, 8, 10, 14, 28, 32)

#: Settings, those that share a cache key with others among them.
CONFIGS = st.builds(
    lambda method, *values, references: PruneConfig(
        method, *values, references="none" if method == "random" else references
    ),
    st.sampled_from(METHODS),
    st.sampled_from(METRICS),
    st.sampled_from((*THRESHOLDS, 0.003, 0.0195, 0.021)),
    st.booleans(),
    st.none() | st.integers(1, 9),
    st.integers(0, 1),
    st.sampled_from((0, 0, 2, 3)),
    references=st.sampled_from(("none", *REFERENCES)),
)


def grids(longest=6):
    """Rows and columns of blocks; one row, one column and one block are frequent."""
    short, long = st.integers(1, longest), st.integers(1, 2 * longest)
    return st.one_of(st.tuples(short, short), st.tuples(st.just(1), long), st.tuples(long, st.just(1)))


@st.composite
def images(draw, longest=6):
    """A uint8 image (H, W, 1, 3 or 6) and its block size."""
    size = draw(st.sampled_from(BLOCK_SIZES))
    rows, cols = draw(grids(longest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (size, size, draw(st.sampled_from((1, 3, 3, 6))))
    tiles = [rng.integers(0, 256, shape) if draw(st.booleans()) else np.full(shape, draw(st.integers(0, 255)))]
    for _ in range(draw(st.integers(0, 3))):
        step = draw(st.sampled_from(STEPS)) * draw(st.sampled_from((-1, 1)))
        where = np.zeros(shape, bool)
        where.flat[rng.permutation(where.size)[: draw(st.sampled_from((1, where.size // 2, where.size)))]] = True
        tiles.append(tiles[draw(st.integers(0, len(tiles) - 1))] + step * where)
    layout = draw(st.sampled_from(((rows, cols), (rows, 1), (1, cols))))  # free, by row, by column
    table = np.broadcast_to(rng.integers(0, len(tiles), layout), (rows, cols))
    down, right = (draw(st.sampled_from((0, 0, 1, 3, 6))) for _ in range(2))
    blocks = [[tiles[table[r, c]] + down * r + right * c for c in range(cols)] for r in range(rows)]
    return np.clip(np.vstack([np.hstack(row) for row in blocks]), 0, 255).astype(np.uint8), size
