"""Options that several commands share. Strings, not choices: PruneConfig alone knows what is allowed."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.config import METHODS, METRICS

Method = Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")]
Metric = Annotated[str, typer.Option(help=f"Distance between blocks: {', '.join(METRICS)}.")]
Threshold = Annotated[float, typer.Option(help="Blocks this close are equal, 0 (exact) to 1.")]
Anchored = Annotated[
    bool, typer.Option("--anchored/--sliding", help="Compare with the kept block, or with the raw neighbour.")
]
MaxTokens = Annotated[
    int | None, typer.Option(help="Keep at most this many blocks per image, by raising the threshold.")
]
Seed = Annotated[int, typer.Option(help="For the method random.")]
Dpi = Annotated[float, typer.Option(help="Pixels per inch for the pages of a PDF.")]
