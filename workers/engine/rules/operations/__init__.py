"""Operations of `keras.ops` in a graph: every class has a rule, or a reason why it has none."""

from collections.abc import Mapping
from types import MappingProxyType

from workers.engine.channels import Rule
from workers.engine.rules.operations import (
    contractions,
    elementwise,
    indexing,
    neural,
    reasons,
    reductions,
    shaping,
)
from workers.engine.rules.operations.reasons import REASONS

__all__ = ["REASONS", "RULES"]

RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **reasons.RULES,
        **elementwise.RULES,
        **shaping.RULES,
        **indexing.RULES,
        **contractions.RULES,
        **reductions.RULES,
        **neural.RULES,
    }
)
