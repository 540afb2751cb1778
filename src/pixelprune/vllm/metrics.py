"""What was pruned, in the log at debug level and as counters at the server's ``/metrics``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from prometheus_client import Counter
from vllm.logger import init_logger

from ..core.config import PruneConfig
from ..core.preprocess import ImageReport

logger = init_logger("vllm.pixelprune")


@cache
def _counters() -> tuple[Counter, Counter, Counter, Counter, Counter]:
    """Made at first use, in the process that prepares images, which is the one that serves ``/metrics``."""
    return (
        Counter("pixelprune_images", "Images that went through selection."),
        Counter("pixelprune_blocks", "Blocks of these images: their tokens without pruning."),
        Counter("pixelprune_kept_blocks", "Blocks kept: their tokens with pruning."),
        Counter("pixelprune_referenced_blocks", "Blocks dropped because an earlier image of the request shows them."),
        Counter("pixelprune_selection_seconds", "Wall time spent on selection, in seconds."),
    )


def record(settings: PruneConfig, reports: Sequence[ImageReport]) -> None:
    """Count the images of one call; images that vLLM had in its processor cache are not processed again."""
    images, blocks, kept, referenced, seconds = _counters()
    images.inc(len(reports))
    for report in reports:
        blocks.inc(report.total)
        kept.inc(report.kept)
        referenced.inc(report.alone - report.kept)
        seconds.inc(report.selection_ms / 1e3)
        logger.debug(
            "%d of %d blocks kept (%.1f %%) by %s at threshold %g, %d in earlier images, selected in %.1f ms",
            report.kept,
            report.total,
            100 * report.kept / report.total,
            settings.method,
            settings.threshold,
            report.alone - report.kept,
            report.selection_ms,
        )
