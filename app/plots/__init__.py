"""Pictures of figures, drawn by matplotlib. Importing it takes half a second: only when needed."""

from typing import Literal

Format = Literal["svg", "png"]
Theme = Literal["light", "dark"]
