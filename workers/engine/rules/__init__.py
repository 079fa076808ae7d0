"""The rule of each layer or operation class: how its calls treat the names of channels.

A class that is not listed freezes its inputs and outputs; to understand a further layer is to
write one function and list it. Classes are looked up exactly: a subclass may do anything.
"""

from collections.abc import Mapping
from types import MappingProxyType

from workers.engine.channels import Call, Opaque, Result, Rule
from workers.engine.ids import Tensor
from workers.engine.rules import attention, makers, movers, norms, operations, recurrent, tiers
from workers.engine.rules.reasons import REASONS


def _left_alone(call: Call) -> Tensor | Result:
    """What has no rule, and why."""
    raise Opaque(f"{call.key} {REASONS[type(call.layer)]}")


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **dict.fromkeys(REASONS, _left_alone),
        **makers.RULES,
        **movers.RULES,
        **tiers.RULES,
        **norms.RULES,
        **attention.RULES,
        **operations.RULES,
        **recurrent.RULES,
    }
)
