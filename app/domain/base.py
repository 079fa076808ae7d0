"""What all domain types have in common."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, and unknown fields are refused: a typo is an error and never a silent default."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class Record(BaseModel):
    """A frozen value that Secateur itself makes and reads back."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, use_attribute_docstrings=True)
