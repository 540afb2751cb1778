"""Families that are refused by name: each error has its reason, and the reason is what transformers does."""

from __future__ import annotations

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel
from transformers.masking_utils import find_packed_sequence_indices
from transformers.modeling_flash_attention_utils import _is_packed_sequence

from pixelprune.errors import UnsupportedModelError
from pixelprune.models.refused import ONE_AXIS, REFUSED
from pixelprune.models.registry import FAMILIES, family_of


@pytest.mark.parametrize("model_type", REFUSED)
def test_the_error_has_the_reason(model_type: str) -> None:
    assert model_type not in FAMILIES
    with pytest.raises(UnsupportedModelError) as caught:
        family_of(model_type)
    assert str(caught.value).startswith(f"model_type {model_type!r} is not supported, because {REFUSED[model_type]}; ")
    assert str(caught.value).endswith(f"supported are {', '.join(sorted(FAMILIES))}")


def test_a_gap_in_positions_of_one_axis_is_taken_for_a_border() -> None:
    """Text of 3 tokens, an image of 6 of which 2 are kept, text of 2: attention would be cut in three."""
    positions = torch.tensor([[0, 1, 2, 3, 7, 9, 10]])
    assert find_packed_sequence_indices(positions).tolist() == [[0, 0, 0, 0, 1, 2, 2]]
    assert _is_packed_sequence(positions, batch_size=1)
    without_gaps = torch.arange(7)[None]
    assert find_packed_sequence_indices(without_gaps) is None
    assert not _is_packed_sequence(without_gaps, batch_size=1)


@pytest.mark.parametrize("model_type", [name for name, reason in REFUSED.items() if reason == ONE_AXIS])
def test_positions_have_one_axis(model_type: str) -> None:
    """Families with several axes compute them in ``get_rope_index``; these have none, where transformers has them."""
    if model_type in CONFIG_MAPPING:
        assert not hasattr(AutoModel._model_mapping[CONFIG_MAPPING[model_type]], "get_rope_index")
    assert hasattr(AutoModel._model_mapping[CONFIG_MAPPING["qwen3_vl"]], "get_rope_index")
