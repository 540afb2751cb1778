"""The settings: one frozen object, validated where it is made, passed down explicitly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigError

Method = Literal["pred2d", "adaptive", "raster", "serpentine", "components", "random"]
Metric = Literal["max", "mae", "rmse"]
References = Literal["none", "previous", "first+previous", "any"]

METHODS: tuple[str, ...] = get_args(Method)
METRICS: tuple[str, ...] = get_args(Metric)
REFERENCES: tuple[str, ...] = get_args(References)

#: The version of the rules, part of every :attr:`PruneConfig.cache_key`. Raise it whenever any rule selects other
#: blocks of any image than before: what a cache holds under the old keys is then not found.
RULES_VERSION = 2


@dataclass(frozen=True)
class PruneConfig:
    """What counts as redundant.

    A setting is one field here. The parsers of files, requests, keywords and command lines take their names, types,
    defaults and help texts from it.

    Args:
        method: the rule that predicts a block from earlier ones.

            - ``pred2d``: LOCO-I's edge rule (ITU-T T.87) on whole blocks, as in arXiv 2604.00886.
            - ``adaptive``: per row of blocks, whichever of left, above, pred2d and pred2d with ties broken
              upward keeps fewest.
            - ``raster``, ``serpentine``: run lengths in scan order.
            - ``components``: one block per 4-connected region of equal blocks (after ShowUI). Not causal.
            - ``random``: as many blocks as ``pred2d`` keeps, drawn at random. A baseline, not a method.
        metric: distance between two blocks over all their values, on the 0..1 scale: the largest absolute
            difference (``max``), its mean (``mae``) or the root of its mean square (``rmse``).
        threshold: blocks at most this far apart are equal, 0..1. Zero is exact. Pixels are 8-bit, so for ``max``
            it means the level ``floor(255 * threshold)``.
        anchored: compare with the *reference* of a neighbour, the kept block that it is copied from, so that errors
            never add up. ``False`` compares raw neighbours.
        max_tokens: keep at most this many blocks, at a higher 8-bit level than that of ``threshold`` if needed: of
            ``max`` up to level 12 (0.05), the highest that was measured; if that keeps too many, at a level of ``mae``
            from 1. The level is found by halving, in at most 12 walks over the image: it fits and the level below does
            not. Kept counts fall with the level but for small exceptions; without them it is the lowest that fits.
        seed: for ``random`` only.
        lattice: also keep every block whose row and column are both multiples of this, so that dropped regions are
            sampled evenly: 2 or more; 0 keeps no more than the method does. It comes after the method, which selects
            as without it, and counts in ``max_tokens``. ``random`` then draws as many blocks as ``pred2d`` keeps with
            the lattice.
        references: of several images, such as a history of screenshots, the earlier ones of the same size that an
            image may refer to: ``none``, the one before it (``previous``), that and the first (``first+previous``), or
            ``any``. A block that one of them shows at the same place is dropped, see
            :func:`pixelprune.select_sequence`; one image alone is selected as with ``none``. Not with ``random``.

    Raises:
        ConfigError: a value is not allowed.
    """

    method: Method = field(default="pred2d", metadata={"help": f"One of {', '.join(METHODS)}."})
    metric: Metric = field(default="max", metadata={"help": f"Distance between blocks: {', '.join(METRICS)}."})
    threshold: float = field(default=0.0, metadata={"help": "Blocks this close are equal, 0 (exact) to 1."})
    anchored: bool = field(
        default=True, metadata={"help": "Compare with the kept block, or with the raw neighbour.", "off": "sliding"}
    )
    max_tokens: int | None = field(
        default=None, metadata={"help": "Keep at most this many blocks per image, by raising the threshold."}
    )
    seed: int = field(default=0, metadata={"help": "For the method random."})
    lattice: int = field(
        default=0,
        metadata={"help": "Also keep each block whose row and column are multiples of this: 2 or more; 0 for none."},
    )
    references: References = field(
        default="none",
        metadata={"help": f"Earlier images whose blocks need not be kept again: {', '.join(REFERENCES)}."},
    )

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {self.method!r}")
        if self.metric not in METRICS:
            raise ConfigError(f"metric must be one of {', '.join(METRICS)}; got {self.metric!r}")
        if not _is_number(self.threshold) or not 0.0 <= float(self.threshold) <= 1.0:
            raise ConfigError(
                f"threshold must be a number from 0 to 1 (0.02 is 5 of 255 levels); got {self.threshold!r}"
            )
        if not isinstance(self.anchored, bool):
            raise ConfigError(f"anchored must be True or False; got {self.anchored!r}")
        if self.max_tokens is not None and (not is_integer(self.max_tokens) or self.max_tokens < 1):
            raise ConfigError(
                f"max_tokens must be a whole number of at least 1, the least reachable count "
                f"(block (0, 0) is always kept); got {self.max_tokens!r}"
            )
        if not is_integer(self.seed) or self.seed < 0:
            raise ConfigError(f"seed must be a whole number of at least 0; got {self.seed!r}")
        if not is_integer(self.lattice) or self.lattice < 0 or self.lattice == 1:
            raise ConfigError(
                f"lattice must be a whole number of at least 2, or 0 for none (1 would keep every block: load without "
                f"pruning instead); got {self.lattice!r}"
            )
        if self.references not in REFERENCES:
            raise ConfigError(f"references must be one of {', '.join(REFERENCES)}; got {self.references!r}")
        if self.references != "none" and self.method == "random":
            raise ConfigError(
                f"method 'random' predicts nothing, so it cannot have references={self.references!r}; choose another "
                f"method, or references='none'"
            )
        # Numbers of numpy's kinds become Python's, which every format can write.
        for name, kind in (("threshold", float), ("max_tokens", int), ("seed", int), ("lattice", int)):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else kind(value))

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], where: str = "") -> PruneConfig:
        """The settings in a mapping, as JSON, YAML or a command line gives them.

        Args:
            settings: values by name; what is left out has its default.
            where: begins every error: where the mapping comes from, such as ``mm_processor_kwargs: "pixelprune"``.

        Raises:
            ConfigError: it is not a mapping, a name is unknown (the message suggests a close one), or a value is not
                allowed.
        """
        prefix = where and f"{where}: "
        if not isinstance(settings, Mapping):
            raise ConfigError(
                f'{prefix}the settings must be a mapping such as {{"threshold": 0}}, or null to prune nothing; '
                f"got {settings!r}"
            )
        for name in settings:
            if name not in SETTINGS:
                raise ConfigError(f"{prefix}unknown setting {name!r}{did_you_mean(name, SETTINGS)}")
        try:
            return cls(**settings)
        except ConfigError as error:
            raise ConfigError(f"{prefix}{error}") from None

    @classmethod
    def from_keywords(
        cls, keywords: Mapping[str, Any], where: str = "", base: PruneConfig | None = None
    ) -> tuple[PruneConfig | None, dict[str, Any]]:
        """The settings among other keyword arguments, and those others.

        A name that is almost a setting is refused, and so is ``prune``: whoever takes the others may drop a name that
        it does not know, and the setting would be lost with no message.

        Args:
            keywords: values by name.
            where: as in :meth:`from_mapping`.
            base: the settings where the keywords say nothing. The defaults, if ``None``.

        Returns:
            The settings, ``base`` itself where no keyword is one; and the other keywords.

        Raises:
            ConfigError: as in :meth:`from_mapping`.
        """
        ours = {
            name: value
            for name, value in keywords.items()
            if name in SETTINGS or name == "prune" or get_close_matches(name, SETTINGS, n=1, cutoff=0.75)
        }
        others = {name: keywords[name] for name in keywords if name not in ours}
        return cls.from_mapping({**({} if base is None else base.to_dict()), **ours}, where) if ours else base, others

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name, as plain JSON values; :meth:`from_mapping` reads it back."""
        return asdict(self)

    @property
    def cache_key(self) -> str:
        """Names what the settings select: two that differ nowhere that matters have the same key.

        JSON text, the same in every process. Settings that cannot change the selection of any image are left out, and
        the threshold is given as the rules use it: as a level where only levels count. It holds
        :data:`RULES_VERSION`.
        """
        key = {"rules": RULES_VERSION, **self.to_dict()}
        if self.method != "random":
            del key["seed"]
        if self.references == "none":
            del key["references"]
        by_level = self.metric == "max" or self.max_tokens is not None
        key["threshold"] = float(self.first_level) if by_level else self.threshold * 255
        if key["threshold"] == 0 and self.max_tokens is None:  # blocks are equal or not, by any metric
            del key["metric"], key["anchored"]
        return json.dumps(key, sort_keys=True)

    @property
    def level(self) -> int:
        """The threshold as an 8-bit level, 0..255."""
        return math.floor(self.threshold * 255 + 1e-6)

    @property
    def first_level(self) -> int:
        """The lowest level that may be used to meet ``max_tokens``, 0..255.

        Metrics other than ``max`` allow a threshold between two levels; the search then starts at the upper one.
        """
        return self.level if self.metric == "max" else math.ceil(self.threshold * 255 - 1e-6)

    def replace(self, **changes: Any) -> PruneConfig:
        """A copy with some settings changed, validated again."""
        return replace(self, **changes)


def threshold_of(level: int) -> float:
    """The threshold with the fewest digits that means this 8-bit level, 0..255."""
    candidates = (math.ceil(level / 255 * scale) / scale for scale in (1, 10, 100, 1000))
    return next(value for value in candidates if PruneConfig(threshold=value).level == level)


#: The names of all settings.
SETTINGS: tuple[str, ...] = tuple(setting.name for setting in fields(PruneConfig))


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the closest known one, or all of them."""
    known = list(known)
    close = get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _is_number(value: object) -> bool:
    return is_integer(value) or (isinstance(value, (float, np.floating)) and math.isfinite(value))


def is_integer(value: object) -> bool:
    """A whole number, numpy's kinds included; booleans and arrays are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
