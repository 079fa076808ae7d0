"""The rule of each layer class: how its calls treat channel ids.

A class that is not listed freezes its inputs and outputs; to understand a further layer is to
write one function and list it. Classes are looked up exactly: a subclass may do anything.
"""

from collections.abc import Mapping
from types import MappingProxyType

from workers.engine.channels import Rule
from workers.engine.rules import makers, movers, tiers

RULES: Mapping[type, Rule] = MappingProxyType({**makers.RULES, **movers.RULES, **tiers.RULES})
