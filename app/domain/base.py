"""What all domain types have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NO_NUL = r"^[^\x00]*$"
"""Text without the character U+0000, which PostgreSQL cannot store."""
Text = Annotated[str, StringConstraints(pattern=NO_NUL)]


class Strict(BaseModel):
    """Frozen, and unknown fields are refused: a typo is an error and never a silent default.

    Infinity and NaN, which JSON does not know and Python's parser takes, are refused too.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class Record(BaseModel):
    """A frozen value that Secateur itself makes and reads back."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, use_attribute_docstrings=True)
