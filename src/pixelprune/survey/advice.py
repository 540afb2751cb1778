"""The settings that suit the images, and why: what was measured of answers, and what was not.

Only the bundled reader's answers were measured, a model of 8.5 million parameters (docs/lattice.md); a recommendation
names what that supports, and says that a large model may answer otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..core.config import threshold_of
from .records import CURVE, LATTICES, LEVELS, METHODS, ImageRow, SequenceRow, Settings, Survey, setting_key
from .summary import Projection, by_folder, by_size, distinct, overall, project, spread, times

#: A higher threshold must save at least this share of the tokens to be worth it; a method that does is spoken of.
WORTH_THRESHOLD, WORTH_METHOD = 0.1, 0.03
#: References are spoken of where they save at least this share of the blocks kept.
WORTH_REFERENCES = 0.1
#: Methods with which the bundled reader points worse than with ``pred2d``, at every lattice that was measured.
POINTED_WORSE = ("adaptive", "raster")
#: Levels up to which a threshold is recommended: 12 of 255 is a threshold of 0.05.
RECOMMENDED_LEVELS = tuple(level for level in CURVE if level <= 12)
#: Above this share of blocks kept, pruning is not worth its trouble.
MAX_USEFUL_RETAIN_RATIO = 0.95
#: The lattice to try first, by whether the model was trained on pruned images.
LATTICE_TRAINED, LATTICE_UNTRAINED = 4, 2


@dataclass(frozen=True)
class Recommendation:
    """A setting, and why.

    Attributes:
        key: of :func:`pixelprune.survey.records.setting_key`.
        method, level: the same in parts.
        prune: whether to prune at all.
        reason: sentences.
    """

    key: str
    method: str
    level: int
    prune: bool
    reason: str

    @property
    def threshold(self) -> float:
        """The level as a threshold that :class:`pixelprune.PruneConfig` takes."""
        return threshold_of(self.level)


@dataclass(frozen=True)
class LatticeRow:
    """What a lattice costs at the recommended threshold, with ``pred2d``.

    Attributes:
        lattice: 0 for none.
        share: kept blocks over all blocks.
        costs: of prefill.
        advice: with which models to try it first; empty for most.
    """

    lattice: int
    share: float
    costs: Projection
    advice: str


def recommend(rows: Sequence[ImageRow]) -> Recommendation:
    """``pred2d``, exact unless a small threshold saves much; with the reason."""
    exact = _share(rows, "pred2d", 0)
    level, reached = 0, exact
    for candidate in RECOMMENDED_LEVELS[1:]:
        share = _share(rows, "pred2d", candidate)
        if share < reached * (1 - WORTH_THRESHOLD):
            level, reached = candidate, share
    if reached > MAX_USEFUL_RETAIN_RATIO:
        top = RECOMMENDED_LEVELS[-1]
        return Recommendation(
            setting_key("pred2d", 0), "pred2d", 0, False,
            f"These images hardly repeat themselves: {exact:.1%} of all blocks are kept at threshold 0, and still "
            f"{_share(rows, 'pred2d', top):.1%} at {threshold_of(top):g}. Pruning them gains nothing.",
        )  # fmt: skip
    if level:
        reason = (
            f"Threshold {threshold_of(level):g} keeps {reached:.1%} of all blocks where exact pruning keeps "
            f"{exact:.1%}, and no pixel is off by more than {level} of 255 levels, too little to see. "
        )
    else:
        most = threshold_of(RECOMMENDED_LEVELS[-1])
        reason = (
            f"Exact pruning keeps {exact:.1%} of all blocks, and no threshold up to {most:g} keeps "
            f"{WORTH_THRESHOLD:.0%} less. So nothing need be given up: each image can be rebuilt bit for bit. "
        )
    return Recommendation(setting_key("pred2d", level), "pred2d", level, True, reason + _of_methods(rows, level))


def _of_methods(rows: Sequence[ImageRow], level: int) -> str:
    """Why ``pred2d``: with it the reader points best at the same lattice, even where another method keeps less."""
    if level not in LEVELS:
        return "Other methods were not counted at this threshold."
    # Among the causal methods, from which a decoder can rebuild the image.
    shares = {name: _share(rows, name, level) for name in METHODS if name != "components"}
    fewest = min(shares, key=lambda name: shares[name])
    if shares[fewest] >= shares["pred2d"] * (1 - WORTH_METHOD):
        return f"No other method keeps less than pred2d by more than {WORTH_METHOD:.0%}."
    answers = "the bundled reader pointed worse with it" if fewest in POINTED_WORSE else "no model was asked with it"
    return f"The method {fewest} keeps {shares[fewest]:.1%}, but {answers}. Large models have not been measured."


def lattices(rows: Sequence[ImageRow], settings: Settings, level: int) -> list[LatticeRow]:
    """Every lattice at a level, none first."""
    advice = {
        0: "the default, as in the paper",
        LATTICE_TRAINED: "with a model that was trained on pruned images",
        LATTICE_UNTRAINED: "with a model that never saw a pruned image",
    }
    keys = {lattice: setting_key("pred2d", level, lattice) for lattice in (0, *LATTICES)}
    return [
        LatticeRow(lattice, spread(rows, key).overall, project(rows, settings, key), advice.get(lattice, ""))
        for lattice, key in keys.items()
    ]


def of_sequences(sequences: Sequence[SequenceRow]) -> str | None:
    """Whether references are worth trying, in a line; None where there are no sequences."""
    if not sequences:
        return None
    alone, referring = sum(row.alone for row in sequences), sum(row.referring for row in sequences)
    images, saved = sum(row.measured for row in sequences), 1 - referring / alone
    if saved < WORTH_REFERENCES:
        return (
            f"Images that follow each other hardly repeat each other: references would save {saved:.1%} of the blocks "
            f"kept of {images} of them. Leave them off."
        )
    return (
        f'references="previous" would save {saved:.1%} of the blocks kept of {images} images that follow each other. '
        f"Accuracy with references is unproven: measure it on your own task first."
    )


def summarize(survey: Survey) -> dict[str, object]:
    """Everything that a survey says as one JSON object; what ``summary`` holds in a survey's JSON file."""
    rows = survey.rows
    if not rows:
        return {"images": 0, "problems": len(survey.problems)}
    best = recommend(rows)
    return {
        "images": len(rows),
        "problems": len(survey.problems),
        "blocks": sum(row.blocks for row in rows),
        "distinct": distinct(rows),
        "settings": {key: asdict(spread(rows, key)) for key in rows[0].kept},
        "projected": {key: asdict(project(rows, survey.settings, key)) for key in rows[0].kept},
        "recommended": {
            **asdict(best),
            "threshold": best.threshold,
            "lattice": {"trained": LATTICE_TRAINED, "untrained": LATTICE_UNTRAINED},
        },
        "folders": [asdict(group) for group in by_folder(rows)],
        "sizes": [asdict(group) for group in by_size(rows)],
        "times": times(rows),
        "sequences": of_sequences(survey.sequences),
    }


def _share(rows: Sequence[ImageRow], method: str, level: int) -> float:
    return overall(rows, lambda row: row.kept[setting_key(method, level)])
