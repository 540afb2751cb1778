"""The rules of ``pixelprune.core.select`` again, slow and plain, for the tests to compare with.

Everything works on a list of blocks in row-major order and on what a decoder would have in the place of each
block ("seen"): itself where kept, its reference where dropped. Distances are exact
fractions and thresholds are read as the decimal numbers that people write, so nothing is rounded anywhere.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

ROW_PREDICTORS = ("pred2d", "left", "above", "pred2d-up")  # in the order in which ties go


def blocks_of(image, size):
    """The image's blocks in row-major order and their grid."""
    rows, cols = image.shape[0] // size, image.shape[1] // size
    blocks = [
        image[r * size : (r + 1) * size, c * size : (c + 1) * size].astype(np.int64)
        for r in range(rows)
        for c in range(cols)
    ]
    return blocks, (rows, cols)


def image_of(blocks, grid):
    """The inverse of ``blocks_of``."""
    rows, cols = grid
    return np.vstack([np.hstack(blocks[r * cols : (r + 1) * cols]) for r in range(rows)]).astype(np.uint8)


def closeness(metric, threshold):
    """The test "these two blocks are equal" for a metric and a threshold on the 0..1 scale."""
    bound = Fraction(str(threshold)) * 255

    def close(a, b):
        difference = np.abs(a - b)
        if metric == "max":
            return int(difference.max()) <= bound
        if metric == "mae":
            return Fraction(int(difference.sum()), difference.size) <= bound
        return Fraction(int((difference**2).sum()), difference.size) <= bound**2  # both sides of the root, squared

    return close


def predict_2d(i, grid, same, predictor):
    """The neighbour from which block ``i`` is predicted; ``same(j, k)`` compares two earlier blocks."""
    cols = grid[1]
    row, col = divmod(i, cols)
    left, above, corner = i - 1, i - cols, i - cols - 1
    if row == 0 and col == 0:
        return None
    if row == 0:
        return left
    if col == 0:
        return above
    if predictor == "left":
        return left
    if predictor == "above":
        return above
    if predictor == "pred2d":
        return above if same(corner, left) and not same(corner, above) else left
    return left if same(corner, above) and not same(corner, left) else above


def scan_order(grid, method):
    """The block before each block in scan order, by block, in that order."""
    rows, cols = grid
    order = []
    for r in range(rows):
        line = [r * cols + c for c in range(cols)]
        order += line[::-1] if method == "serpentine" and r % 2 else line
    return dict(zip(order, [None, *order], strict=False))


def select(image, size, method="pred2d", metric="max", threshold=0, anchored=True):
    """``source`` (rows, cols) and, for ``adaptive``, the predictors of the rows, by any rule but ``random``."""
    blocks, grid = blocks_of(image, size)
    close = closeness(metric, threshold)
    if method == "components":
        return components(blocks, grid, close, anchored), None
    rows, cols = grid
    source = {}  # block -> its reference

    def seen(j):
        return blocks[source[j]] if anchored else blocks[j]

    def same(j, k):
        return close(seen(j), seen(k))

    def visit(i, neighbour):
        predicted = neighbour is not None and close(blocks[i], seen(neighbour))
        source[i] = source[neighbour] if predicted else i

    if method in ("raster", "serpentine"):
        for i, previous in scan_order(grid, method).items():
            visit(i, previous)
    choices = []
    for row in range(rows) if method in ("pred2d", "adaptive") else ():
        line = range(row * cols, (row + 1) * cols)
        tries = {}
        for predictor in ROW_PREDICTORS if method == "adaptive" and row > 0 else ("pred2d",):
            for i in line:
                visit(i, predict_2d(i, grid, same, predictor))
            tries[predictor] = {i: source[i] for i in line}
        best = min(tries, key=lambda name: sum(i == s for i, s in tries[name].items()))  # the first of equals
        source.update(tries[best])
        choices.append(ROW_PREDICTORS.index(best))
    table = np.array([source[i] for i in range(rows * cols)]).reshape(grid)
    return table, np.array(choices) if method == "adaptive" else None


def components(blocks, grid, close, anchored):
    """Grow each region, from its first block in row-major order, until a whole pass adds nothing."""
    rows, cols = grid
    owner = {}
    for first in range(rows * cols):
        if first in owner:
            continue
        owner[first] = first
        grown = True
        while grown:
            grown = False
            for i in range(rows * cols):
                if i in owner:
                    continue
                reached_from = [j for j in neighbours(i, grid) if owner.get(j) == first]
                references = [first] if anchored and reached_from else reached_from
                if any(close(blocks[i], blocks[j]) for j in references):
                    owner[i] = first
                    grown = True
    return np.array([owner[i] for i in range(rows * cols)]).reshape(grid)


def neighbours(i, grid):
    """The blocks that share a side with block ``i``."""
    rows, cols = grid
    row, col = divmod(i, cols)
    around = [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
    return [r * cols + c for r, c in around if 0 <= r < rows and 0 <= c < cols]


def add_lattice(source, step):
    """``source`` with every block at a multiple of ``step`` in both directions kept, and the blocks that this added."""
    rows, cols = source.shape
    result, added = source.copy(), []
    for r in range(rows):
        for c in range(cols):
            i = r * cols + c
            if r % step == 0 and c % step == 0 and source[r, c] != i:
                result[r, c] = i
                added.append(i)
    return result, added


def last_kept(keep):
    """``source`` of ``random``, from its keep mask: the last kept block in row-major order."""
    source, last = [], None
    for i, kept in enumerate(keep.ravel()):
        last = i if kept else last
        source.append(last)
    return np.array(source).reshape(keep.shape)


def decode(method, keep, kept_blocks, row_predictors, grid):
    """Rebuild an image that a causal rule pruned at threshold 0, by running its predictor.

    Knows nothing of the image but the arguments: where blocks were kept, bool (rows, cols); the kept blocks'
    pixels, in row-major order; and for ``adaptive`` the predictor of each row, as an index.
    """
    rows, cols = grid
    kept = dict(zip(np.flatnonzero(keep), kept_blocks, strict=True))
    seen = {}

    def same(j, k):
        return np.array_equal(seen[j], seen[k])

    if method in ("raster", "serpentine"):
        for i, previous in scan_order(grid, method).items():
            seen[i] = kept[i] if i in kept else seen[previous]
    else:
        for i in range(rows * cols):
            predictor = ROW_PREDICTORS[row_predictors[i // cols]] if method == "adaptive" else "pred2d"
            seen[i] = kept[i] if i in kept else seen[predict_2d(i, grid, same, predictor)]
    return image_of([seen[i] for i in range(rows * cols)], grid)
