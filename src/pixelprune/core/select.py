"""The rule: which blocks of an image are predictable from blocks above and to the left.

Source: arXiv 2604.00886; the predictor is LOCO-I's edge rule (JPEG-LS, ITU-T T.87) on whole blocks. With A the
block to the left, B the one above and C the one above-left, each as the decoder would see it::

    prediction = B if (C == A and C != B) else A

The first row predicts from A, the first column from B. A block is kept iff it differs from its prediction.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import BudgetError, ConfigError, ImageError
from .budget import within_budget
from .config import PruneConfig, is_integer
from .selection import Selection
from .walk import UNLIMITED, Walk, numpy_walk

if TYPE_CHECKING:
    import torch


#: The sources, the choices of the rows, and the blocks that the lattice added.
_Found: TypeAlias = tuple[NDArray[np.int32], NDArray[np.uint8] | None, NDArray[np.int32] | None]


def select(
    image: NDArray[np.uint8] | torch.Tensor, config: PruneConfig | None = None, *, block_size: int = 32
) -> Selection:
    """Choose the blocks to keep.

    Args:
        image: uint8 ``(H, W, 3)`` or ``(H, W, 1)``, H and W multiples of ``block_size``: the image exactly as the
            model's image processor resizes it. A torch tensor is processed where it lies. Two frames of a video that
            share their tokens are one image of 6 or 2 channels, the frames side by side within each channel.
        config: the settings; ``PruneConfig()`` if omitted: exact ``pred2d``.
        block_size: side of a block in pixels, ``patch_size * merge_size`` of the model: 32 for Qwen3-VL, 28 for
            Qwen2-VL and Qwen2.5-VL.

    Returns:
        The selection. It does not depend on threads, strides or memory order.

    Raises:
        ImageError: the image's type, shape or size is not as above.
        BudgetError: the lattice alone has more blocks than ``config.max_tokens``.
        ConfigError: ``config`` is not a PruneConfig.
    """
    config = PruneConfig() if config is None else config
    if not isinstance(config, PruneConfig):
        raise ConfigError(f"config must be a PruneConfig, such as PruneConfig(threshold=0.02); got {config!r}")
    _check(image, block_size)
    block_size = int(block_size)
    _check_budget(config, image.shape[0] // block_size, image.shape[1] // block_size)
    if isinstance(image, np.ndarray):
        walk = numpy_walk(image, block_size)
    elif config.max_tokens is not None:
        # A budget tries many levels, and a walk that overruns it stops early only on the host.
        walk = numpy_walk(image.detach().cpu().numpy(), block_size)
    else:
        from .select_torch import torch_walk

        walk = torch_walk(image, block_size)
    method = "pred2d" if config.method == "random" else config.method
    source, choices, added, used = _walked(walk, method, config, image.shape[2] * block_size**2)
    if config.method == "random":
        source, added = _random_source(source, config.seed), None
    choices = choices if method == "adaptive" else None
    return Selection(source, block_size, used.level, choices, added, used.metric)


def _check(image: Any, block_size: int) -> None:
    if not is_integer(block_size) or block_size < 1:
        raise ImageError(f"block_size must be a whole number of at least 1; got {block_size!r}")
    if not isinstance(image, np.ndarray) and type(image).__module__.split(".")[0] != "torch":
        raise ImageError(f"image must be a numpy array or a torch tensor; got {type(image).__name__}")
    if str(image.dtype).removeprefix("torch.") != "uint8":
        raise ImageError(
            f"image must be uint8, as the image processor resizes it and before normalisation; got {image.dtype}"
        )
    shape = tuple(image.shape)
    if len(shape) != 3 or shape[2] not in (1, 3, 2, 6):
        raise ImageError(f"image must be (H, W, 3) or (H, W, 1), channels last; got shape {shape}")
    if 0 in shape or shape[0] % int(block_size) or shape[1] % int(block_size):
        raise ImageError(
            f"height and width must be multiples of block_size={block_size} and not 0; got {shape[0]} x {shape[1]}. "
            f'Resize as the model does: pixelprune.models.resize.ResizeSpec.for_model("qwen3_vl").resize(image)'
        )


def _walked(walk: Walk, method: str, config: PruneConfig, values: int) -> tuple[*_Found, PruneConfig]:
    """Select at the configured threshold, or at one that meets the budget.

    Returns:
        The sources, the choices of the rows, the blocks that the lattice added, and the settings that were used.
    """

    def run(used: PruneConfig, budget: int) -> tuple[*_Found, int]:
        limit = _limit(used.metric, used.threshold * 255, values)
        source, choices, kept = walk(method, used.metric, limit, used.anchored, budget)
        if not used.lattice or kept > budget:
            return source, choices, None, kept
        added = _add_lattice(source, used.lattice)
        return source, choices, added, kept + added.size

    if config.max_tokens is None:
        source, choices, added, _ = run(config, UNLIMITED)
        return source, choices, added, config
    budget = config.max_tokens

    def attempt(used: PruneConfig) -> tuple[*_Found, PruneConfig] | None:
        source, choices, added, kept = run(used, budget)
        return (source, choices, added, used) if kept <= budget else None

    found = within_budget(config, attempt)
    # At level 255 all blocks are equal: one is kept besides the lattice, which was found to fit.
    assert found is not None
    return found


def _check_budget(config: PruneConfig, rows: int, cols: int) -> None:
    """Refuse a budget that not even level 255 meets, at which block (0, 0) and the lattice are kept."""
    if not config.lattice or config.max_tokens is None:
        return
    least = math.ceil(rows / config.lattice) * math.ceil(cols / config.lattice)
    if least > config.max_tokens:
        raise BudgetError(
            f"lattice={config.lattice} alone keeps {least} of {rows * cols} blocks, more than "
            f"max_tokens={config.max_tokens}; use a larger lattice, a larger budget, or a smaller image"
        )


def _add_lattice(source: NDArray[np.int32], step: int) -> NDArray[np.int32]:
    """Keep the blocks whose row and column are multiples of ``step``, in place.

    It comes after the walk, so that it changes neither which other blocks are kept nor their references.

    Returns:
        The flat indices of the blocks that were not kept before, ascending.
    """
    own = np.arange(source.size, dtype=np.int32).reshape(source.shape)[::step, ::step]
    lattice = source[::step, ::step]
    added: NDArray[np.int32] = own[lattice != own]
    lattice[...] = own
    return added


def _limit(metric: str, level: float, values: int) -> int:
    """The largest allowed integer distance: a level for ``max``, a total over a block's values otherwise.

    The small constant absorbs the error of writing a level as a binary fraction, such as 0.02 for 5.1 / 255.
    """
    if metric == "max":
        return math.floor(level + 1e-6)
    if metric == "mae":
        return math.floor(level * values + 1e-6)
    return math.floor(level * level * values + 1e-6)


def _random_source(pred2d_source: NDArray[np.int32], seed: int) -> NDArray[np.int32]:
    """As many blocks as pred2d keeps, at random, block (0, 0) among them; references are the last kept."""
    total = pred2d_source.size
    indices = np.arange(total, dtype=np.int32)
    count = int((pred2d_source.ravel() == indices).sum())
    keep = np.zeros(total, bool)
    keep[0] = True
    keep[1 + np.random.default_rng(seed).permutation(total - 1)[: count - 1]] = True
    source = np.maximum.accumulate(np.where(keep, indices, 0)).astype(np.int32)
    return source.reshape(pred2d_source.shape)
