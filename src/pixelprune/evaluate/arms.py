"""The arms of a comparison: what a model sees of an image, as whole, as pruned, or as one of the plain rivals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ..core.config import METHODS, PruneConfig, did_you_mean
from ..core.select import select
from ..errors import ConfigError
from ..models.resize import ResizeSpec


@dataclass(frozen=True)
class Arm:
    """One way to show images to a model.

    Attributes:
        name: of the arm in tables; the same on disk with other characters replaced.
        prune: how images are pruned; ``None`` shows them whole.
        resized: instead, show the whole image, resized to at most as many blocks as ``prune`` keeps of it.
    """

    name: str
    prune: PruneConfig | None
    resized: bool = False

    @property
    def processor_prune(self) -> PruneConfig | None:
        """What the engine prunes with."""
        return None if self.resized else self.prune

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return slug(self.name)

    def shown(self, image: Image.Image, spec: ResizeSpec) -> Image.Image:
        """The image that is handed to the model's processor.

        Args:
            image: RGB.
            spec: how the processor resizes.

        Returns:
            ``image`` itself; or for ``resized`` an image of whole blocks, as many as ``prune`` keeps or a few less,
            which :func:`sizes` lets the processor take as it is.
        """
        if not self.resized:
            return image
        area = spec.block_size**2
        kept = select(spec.resize(image), self.prune, block_size=spec.block_size).num_kept
        return Image.fromarray(replace(spec, min_pixels=area, max_pixels=kept * area).resize(image))

    def sizes(self, spec: ResizeSpec) -> dict[str, int] | None:
        """The ``size`` for the processor, which for ``resized`` takes images below its least size; else None."""
        return {"shortest_edge": spec.block_size**2, "longest_edge": spec.max_pixels} if self.resized else None

    @classmethod
    def parse(cls, value: Any, seed: int = 0) -> Arm:
        """An arm as a YAML file names it.

        Args:
            value: ``whole``; ``exact`` (``pred2d`` at threshold 0); ``adaptive`` and the other methods, at threshold 0;
                ``random`` (as many blocks as ``exact``, at random); ``resized`` (as many as ``exact``, whole); a
                mapping of one setting, ``threshold: 0.02``, ``lattice: 4``, ``references: previous``; or
                ``{name: ..., prune: {...}}``, and ``{name: ..., resized: {...}}`` for the rival of those settings.
            seed: of arms with the method ``random`` that have none.

        Raises:
            ConfigError: it is none of these, or a setting is not allowed.
        """
        if isinstance(value, str):
            if value in ("whole", "exact"):
                return cls(value, PruneConfig() if value == "exact" else None)
            if value == "resized":
                return cls(value, PruneConfig(), resized=True)
            if value in METHODS:
                return cls(value, PruneConfig.from_mapping({"method": value, "seed": seed if value == "random" else 0}))
            raise ConfigError(f"unknown arm {value!r}{did_you_mean(value, ('whole', 'exact', 'resized', *METHODS))}")
        if not isinstance(value, Mapping):
            raise ConfigError(f"an arm is a name such as exact, or a mapping such as threshold: 0.02; got {value!r}")
        if "name" not in value:
            if len(value) != 1:
                raise ConfigError(f"an arm of several settings needs a name and prune: {{...}}; got {dict(value)!r}")
            ((setting, amount),) = value.items()
            return cls(f"{setting} {amount}", PruneConfig.from_mapping(value, "arms"))
        kinds = [key for key in value if key != "name"]
        if kinds not in (["prune"], ["resized"]) or not isinstance(value["name"], str) or not value["name"].strip():
            raise ConfigError(f"a named arm has a name and either prune or resized, with settings; got {dict(value)!r}")
        name, settings = value["name"], value[kinds[0]]
        if settings is None and kinds == ["prune"]:
            return cls(name, None)
        if isinstance(settings, Mapping) and settings.get("method") == "random":
            settings = {"seed": seed, **settings}
        prune, resized = PruneConfig.from_mapping(settings, f"arms: {name}"), kinds == ["resized"]
        if resized and prune.references != "none":
            raise ConfigError(
                f"arms: {name}: resized makes each image as small by itself; leave out references: {prune.references}"
            )
        return cls(name, prune, resized)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"name": self.name, "prune": self.prune and self.prune.to_dict(), "resized": self.resized}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Arm:
        """What :meth:`to_dict` gave."""
        prune = value["prune"]
        return cls(value["name"], prune and PruneConfig.from_mapping(prune), value["resized"])


def slug(name: str) -> str:
    """A name as a folder's: letters, digits, dots, dashes and underscores; the rest is a dash."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "-"
