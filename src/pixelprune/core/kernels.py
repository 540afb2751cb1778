"""The rules as one walk over the blocks of a uint8 image, compiled.

A block is named by its flat row-major index. ``source[i]`` is the reference of block ``i``:
the kept block that it is copied from, itself where kept.
Anchored comparisons take ``source`` of a neighbour, sliding ones the neighbour itself. Everything else is the
rule. Pixels come in twice, as bytes ``(H, W * C)`` and as the widest words that divide a block's row, for exact
comparison.
"""

from __future__ import annotations

import numpy as np

from .jit import jit

PRED2D, LEFT, ABOVE, PRED2D_UP = 0, 1, 2, 3
MAX, MAE, RMSE = 0, 1, 2


@jit
def _equal(words, cols, size, i, j):  # type: ignore[no-untyped-def]
    """Every value of blocks i and j is the same. Leaves at the first row that differs."""
    span = words.shape[1] // cols
    top_i, left_i = i // cols * size, i % cols * span
    top_j, left_j = j // cols * size, j % cols * span
    for y in range(size):
        a = words[top_i + y, left_i : left_i + span]
        b = words[top_j + y, left_j : left_j + span]
        differs = a[0] ^ b[0]
        for x in range(1, span):
            differs |= a[x] ^ b[x]
        if differs != 0:
            return False
    return True


@jit
def _close(pixels, cols, size, metric, limit, i, j):  # type: ignore[no-untyped-def]
    """The distance of blocks i and j, as an integer total over the block (``max``: as a level), is within limit."""
    span = pixels.shape[1] // cols
    top_i, left_i = i // cols * size, i % cols * span
    top_j, left_j = j // cols * size, j % cols * span
    total = 0
    for y in range(size):
        a = pixels[top_i + y, left_i : left_i + span]
        b = pixels[top_j + y, left_j : left_j + span]
        if metric == MAX:
            largest = np.uint8(0)
            for x in range(span):
                difference = np.uint8(max(a[x], b[x]) - min(a[x], b[x]))
                largest = max(largest, difference)
            if largest > limit:
                return False
        elif metric == MAE:
            for x in range(span):
                total += np.uint8(max(a[x], b[x]) - min(a[x], b[x]))
            if total > limit:
                return False
        else:
            for x in range(span):
                difference = np.int32(a[x]) - np.int32(b[x])
                total += difference * difference
            if total > limit:
                return False
    return True


@jit
def _same(words, pixels, cols, size, metric, limit, i, j):  # type: ignore[no-untyped-def]
    if i == j:
        return True
    if limit == 0:
        return _equal(words, cols, size, i, j)
    return _close(pixels, cols, size, metric, limit, i, j)


@jit
def _predict_row(words, pixels, cols, size, metric, limit, anchored, predictor, row, above_source, source, budget):  # type: ignore[no-untyped-def]
    """Walk one row with one predictor, given the sources of the row above. Writes its own, returns its kept count."""
    start = row * cols
    kept = 0
    for c in range(cols):
        i = start + c
        left = above = np.int64(-1)
        if c > 0:
            left = np.int64(source[c - 1]) if anchored else i - 1
        if row > 0:
            above = np.int64(above_source[c]) if anchored else i - cols
        if c == 0:
            pred = above
        elif row == 0 or predictor == LEFT or left == above:
            pred = left
        elif predictor == ABOVE:
            pred = above
        else:
            corner = np.int64(above_source[c - 1]) if anchored else i - cols - 1
            near, far = (left, above) if predictor == PRED2D else (above, left)
            # C == near and C != far: an edge runs between C and far, so the block continues far.
            edge = _same(words, pixels, cols, size, metric, limit, corner, near)
            pred = far if edge and not _same(words, pixels, cols, size, metric, limit, corner, far) else near
        if pred >= 0 and _same(words, pixels, cols, size, metric, limit, i, pred):
            if anchored:
                source[c] = pred
            else:
                source[c] = source[c - 1] if c > 0 and pred == i - 1 else above_source[c]
        else:
            source[c] = i
            kept += 1
            if kept > budget:
                break
    return kept


@jit
def walk_2d(words, pixels, rows, cols, size, metric, limit, anchored, adaptive, budget):  # type: ignore[no-untyped-def]
    """``pred2d`` and ``adaptive``. Gives up, with a kept count above budget, as soon as that many are kept."""
    source = np.zeros((rows, cols), np.int32)
    choices = np.zeros(rows, np.uint8)
    trial = np.zeros(cols, np.int32)
    kept = 0
    for r in range(rows):
        above = source[max(r - 1, 0)]
        best = _predict_row(
            words, pixels, cols, size, metric, limit, anchored, PRED2D, r, above, source[r], budget - kept
        )
        if adaptive and r > 0:
            # A trial that keeps no fewer than the best so far is given up as soon as that is known.
            for predictor in (LEFT, ABOVE, PRED2D_UP):
                if best == 0:
                    break
                count = _predict_row(
                    words, pixels, cols, size, metric, limit, anchored, predictor, r, above, trial, best - 1
                )
                if count < best:
                    best = count
                    choices[r] = predictor
                    source[r] = trial
        kept += best
        if kept > budget:
            break
    return source, choices, kept


@jit
def walk_scan(words, pixels, rows, cols, size, metric, limit, anchored, serpentine, budget):  # type: ignore[no-untyped-def]
    """``raster`` and ``serpentine``: each block against the one before it in scan order."""
    source = np.zeros(rows * cols, np.int32)
    kept = 1
    previous = np.int64(0)
    for n in range(1, rows * cols):
        r = n // cols
        c = n % cols
        i = r * cols + (cols - 1 - c if serpentine and r % 2 == 1 else c)
        pred = np.int64(source[previous]) if anchored else previous
        if _same(words, pixels, cols, size, metric, limit, i, pred):
            source[i] = source[previous]
        else:
            source[i] = i
            kept += 1
            if kept > budget:
                break
        previous = i
    return source.reshape(rows, cols), kept


@jit
def walk_components(words, pixels, rows, cols, size, metric, limit, anchored, budget):  # type: ignore[no-untyped-def]
    """``components``: flood each region from its first block in row-major order.

    Anchored, a block joins if it equals the region's first block, so the error is bounded; sliding, if it equals
    the neighbour from which it is reached.
    """
    total = rows * cols
    source = np.full(total, -1, np.int32)
    stack = np.empty(total, np.int64)
    kept = 0
    for seed in range(total):
        if source[seed] >= 0:
            continue
        source[seed] = seed
        kept += 1
        if kept > budget:
            break
        stack[0] = seed
        height = 1
        while height > 0:
            height -= 1
            here = stack[height]
            r, c = here // cols, here % cols
            for direction in range(4):
                if direction == 0 and c + 1 < cols:
                    there = here + 1
                elif direction == 1 and c > 0:
                    there = here - 1
                elif direction == 2 and r + 1 < rows:
                    there = here + cols
                elif direction == 3 and r > 0:
                    there = here - cols
                else:
                    continue
                reference = seed if anchored else here
                if source[there] < 0 and _same(words, pixels, cols, size, metric, limit, there, reference):
                    source[there] = seed
                    stack[height] = there
                    height += 1
    return source.reshape(rows, cols), kept


@jit
def equal_blocks(words, others, cols, size, wanted):  # type: ignore[no-untyped-def]
    """Which of the wanted blocks are the same, value for value, in two images: bool ``(blocks,)``.

    Written out, because :func:`_equal` with a second array makes every walk slower, by about 15 %.
    """
    span = words.shape[1] // cols
    same = np.zeros(wanted.size, np.bool_)
    for i in range(wanted.size):
        if not wanted[i]:
            continue
        top, left = i // cols * size, i % cols * span
        equal = True
        for y in range(top, top + size):
            a = words[y, left : left + span]
            b = others[y, left : left + span]
            differs = a[0] ^ b[0]
            for x in range(1, span):
                differs |= a[x] ^ b[x]
            if differs != 0:
                equal = False
                break
        same[i] = equal
    return same
