"""The rule of each layer or operation class: how its calls treat the names of channels.

A class that is not listed freezes its inputs and outputs; to understand a further layer is to
write one function and list it. Classes are looked up exactly: a subclass may do anything.
"""

from collections.abc import Mapping
from types import MappingProxyType

from workers.engine.channels import Rule
from workers.engine.rules import attention, makers, movers, norms, operations, tiers

RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **makers.RULES,
        **movers.RULES,
        **tiers.RULES,
        **norms.RULES,
        **attention.RULES,
        **operations.RULES,
    }
)
