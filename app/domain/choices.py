"""What the parts of a spec are made of: named choices, shares, and errors that name a field."""

from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function


def wrong(field: str, sentence: str) -> PydanticCustomError:
    """An error of a whole object that names the field at fault."""
    # Pydantic formats the template: braces in it are not meant as places.
    return PydanticCustomError("wrong", "{sentence}", {"sentence": sentence, "field": field})


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class _Named:
    """Lets a bare name stand for a choice, and says so in the JSON Schema."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_before_validator_function(_named, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        choice = handler(schema)
        names = list(choice["discriminator"]["mapping"])
        return {"anyOf": [choice, {"type": "string", "enum": names}]}


Named = _Named()
Share = Annotated[float, Field(gt=0, lt=1)]
