"""When a delivery is tried again, and secrets."""

import base64

from app.domain.webhook import DELAYS_SECONDS, MOST_ATTEMPTS, delay_seconds, new_secret


def test_attempts_come_later_and_later_for_three_days() -> None:
    waits = [delay_seconds(attempts) for attempts in range(1, MOST_ATTEMPTS)]
    for wait, planned in zip(waits, DELAYS_SECONDS, strict=True):
        assert wait is not None
        assert planned <= wait <= 1.2 * planned
    assert 3 * 86_400 <= sum(DELAYS_SECONDS) <= 4 * 86_400
    assert delay_seconds(MOST_ATTEMPTS) is None


def test_what_failed_together_does_not_come_back_together() -> None:
    assert len({delay_seconds(3) for _ in range(20)}) > 15


def test_a_receiver_may_ask_for_more_time_within_reason() -> None:
    assert delay_seconds(1, asked_for=600) == 600
    assert delay_seconds(1, asked_for=1e9) == DELAYS_SECONDS[-1]
    assert (delay_seconds(4, asked_for=1) or 0) >= DELAYS_SECONDS[3]


def test_secrets_are_256_random_bits_in_the_standard_s_form() -> None:
    one, other = new_secret(), new_secret()
    assert one != other
    assert one.startswith("whsec_")
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32
