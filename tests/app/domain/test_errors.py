"""The tree of errors, walked."""

import re

import pytest

from app.api.problems import STATUS, status_of
from app.domain import errors
from app.domain.errors import SecateurError, error_classes
from app.services.errors import from_problem

OWN = tuple(cls for cls in error_classes() if cls.__module__ == errors.__name__)


def test_the_walk_finds_every_error_of_the_module() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, SecateurError)
    }
    assert defined == set(OWN)


def test_the_picture_in_the_docstring_names_them_all() -> None:
    picture = (errors.__doc__ or "").split("An error is")[0]
    assert set(re.findall(r"[A-Z][A-Za-z]+(?=\s|$)", picture)) >= {cls.__name__ for cls in OWN}


def test_slugs_and_titles_are_unique() -> None:
    assert len({cls.slug for cls in OWN}) == len(OWN)
    assert len({cls.title for cls in OWN}) == len(OWN)


@pytest.mark.parametrize("cls", OWN)
def test_every_error_describes_itself(cls: type[SecateurError]) -> None:
    assert {"slug", "title"} <= vars(cls).keys(), "inherited: clients could not tell it apart"
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.slug)
    assert cls.fault in ("client", "service")
    assert (cls.__doc__ or "").strip()


@pytest.mark.parametrize("cls", OWN)
def test_every_error_has_a_status_that_agrees_with_its_fault(cls: type[SecateurError]) -> None:
    assert 400 <= status_of(cls) <= 599
    assert (status_of(cls) < 500) == (cls.fault == "client")


def test_the_table_holds_errors_only() -> None:
    assert set(STATUS) <= set(OWN)


@pytest.mark.parametrize("cls", OWN)
def test_a_stored_problem_becomes_its_error_again(cls: type[SecateurError]) -> None:
    findings = ({"field": "a.b", "detail": "It broke"},)
    problem = cls("It broke.", field="a.b", errors=findings).as_problem()
    again = from_problem(problem)
    assert type(again) is cls
    assert again.as_problem() == problem


def test_an_unknown_stored_problem_is_still_an_error() -> None:
    assert type(from_problem({"type": "/problems/of-tomorrow"})) is SecateurError


def test_a_problem_without_field_and_findings_has_no_such_members() -> None:
    assert set(errors.NotFound("No.").as_problem()) == {
        "type",
        "title",
        "detail",
        "fault",
        "retryable",
    }
