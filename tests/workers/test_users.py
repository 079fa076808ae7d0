"""Uids for jobs: one each."""

import os
from pathlib import Path

import pytest

from workers import users
from workers.users import Users

ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root has other users to give")


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "LOCKS", (tmp_path / "locks",))


@ROOT
def test_no_two_jobs_have_the_same_and_what_is_given_back_is_lent_again() -> None:
    lent = [Users(60578, 2).lease() for _ in range(3)]
    assert [one and one.uid for one in lent] == [60578, 60579, None]
    lent[0].release()
    again = Users(60578, 2).lease()
    assert again is not None
    assert again.uid == 60578
    for one in (again, lent[1]):
        one.release()


@ROOT
def test_a_folder_that_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o777)
    assert Users(60578, 2).lease() is None


@ROOT
def test_the_job_owns_what_it_writes_and_not_its_folder(tmp_path: Path) -> None:
    lease = Users(60578, 1).lease()
    assert lease is not None
    job = tmp_path / "job"
    (job / "out").mkdir(parents=True)
    lease.hand_over(job, (job / "out",))
    lease.release()
    assert (job / "out").stat().st_uid == 60578
    assert (job.stat().st_uid, job.stat().st_gid) == (0, 60578)
    assert job.stat().st_mode & 0o777 == 0o750


def test_an_ordinary_user_has_none_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert Users(60578, 2).lease() is None
