"""Keys: how they look, what is kept of them."""

import hashlib

import pytest

from app.domain.people import OWNER, hashed, is_secret_of, new_key, parse_key


def test_a_key_is_read_back() -> None:
    made = new_key()
    assert parse_key(made.text) == made
    assert made.text == f"sct_{made.id}_{made.secret}"


def test_no_two_keys_are_alike() -> None:
    made = [new_key() for _ in range(100)]
    assert len({key.id for key in made}) == len({key.secret for key in made}) == 100


@pytest.mark.parametrize(
    "text",
    [
        *("", "sct_", "sct_a_b", f"sct_{'0' * 12}_{'0' * 47}", f"sct_{'0' * 12}_{'0' * 49}"),
        *(f"SCT_{'0' * 12}_{'0' * 48}", f"sct_{'0' * 12}_{'0' * 48}\n"),
        f"sct_{'0' * 12}_{'g' * 48}",
    ],
)
def test_what_is_no_key_is_told(text: str) -> None:
    assert parse_key(text) is None


def test_the_hash_is_sha256_of_the_secret_alone() -> None:
    assert hashed("abc") == hashlib.sha256(b"abc").hexdigest()
    assert is_secret_of("abc", hashed("abc"))
    assert not is_secret_of("abd", hashed("abc"))


@pytest.mark.parametrize("name", ["alice", "a", "team-7", "0", "x" * 31])
def test_names_of_owners(name: str) -> None:
    assert OWNER.fullmatch(name)


@pytest.mark.parametrize("name", ["", "Alice", "a b", "-a", "a_b", "x" * 32, "é", "a\n", "a:b"])
def test_names_that_are_none(name: str) -> None:
    assert not OWNER.fullmatch(name)
