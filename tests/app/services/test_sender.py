"""What waits is sent: at least once, under one id, to one after the other, and never for good."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from standardwebhooks.webhooks import Webhook

from app.adapters.database import DeliveryRow, WebhookRow
from app.adapters.outbound import Policy
from app.domain.errors import Conflict, NotFound
from app.domain.job import Status
from app.domain.people import ANYBODY, Caller
from app.domain.webhook import (
    MOST_ATTEMPTS,
    DeliveryStatus,
    Rotation,
    SendAttempt,
    WebhookChange,
    WebhookSpec,
)
from app.services import audit, lifecycle, sender
from app.services.dispatch import Reaper
from app.services.sender import Sender
from app.services.webhooks import DeliveryResource, Webhooks, WebhookWithSecret
from tests.app.receivers import Receiver, receiver
from tests.app.services.conftest import World
from tests.servers import free_port

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "webhooks.md"


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Where nothing depends on locks and types: once is enough."""


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


class Post:
    """The world with webhooks that may point here, and a sender."""

    def __init__(self, world: World) -> None:
        allowed: dict[str, Any] = {
            "webhook_allow_networks": "127.0.0.1",
            "webhook_allow_http": True,
            "webhook_timeout_seconds": 5,
        }
        self.world = world
        self.settings = world.settings.model_copy(update=allowed)
        self.database = world.database
        self.webhooks = Webhooks(world.database, self.settings)
        self.sender = Sender(world.database, self.settings)

    def hook(self, url: str, owner: str = ANYBODY.owner) -> WebhookWithSecret:
        return self.webhooks.of(Caller(owner=owner)).create(WebhookSpec(url=url))

    def job(self, count: int = 1) -> None:
        for _ in range(count):
            lifecycle.finish(self.database, self.world.attempt(), Status.SUCCEEDED, result={})

    def send(self, rounds: int = 1) -> int:
        begun = 0
        for _ in range(rounds):
            begun += self.sender.round()
            self.sender.wait(10)
        return begun

    def deliveries(self, hook: WebhookWithSecret) -> list[DeliveryResource]:
        return self.webhooks.deliveries(hook.id, 100, None)[::-1]

    def only(self, hook: WebhookWithSecret) -> DeliveryResource:
        (found,) = self.deliveries(hook)
        return found

    def let_pass(self, seconds: float) -> None:
        """All that was to come comes sooner."""
        with self.database.write() as session:
            for column in (DeliveryRow.next_at, DeliveryRow.lease_expires_at):
                session.execute(update(DeliveryRow).values({column: column - seconds}))
            session.execute(
                update(WebhookRow).values(
                    failing_since=WebhookRow.failing_since - seconds,
                    old_secret_until=WebhookRow.old_secret_until - seconds,
                )
            )


@pytest.fixture
def post(world: World) -> Post:
    return Post(world)


# --- sending -------------------------------------------------------------------------------------
def test_a_receiver_can_verify_what_it_gets(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    post.job()
    assert post.send() == 1
    (got,) = there.got
    body = Webhook(hook.secret).verify(got.body, got.headers)
    delivery = post.only(hook)
    assert body["type"] == "job.succeeded"
    assert got.headers["webhook-id"] == delivery.id
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("Secateur/")
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 10
    assert got.body.decode() == delivery.body
    assert delivery.status is DeliveryStatus.DELIVERED
    assert (delivery.attempts, delivery.next_attempt_at) == (1, None)
    assert delivery.ended_at is not None
    (made,) = delivery.log
    assert (made.response_status, made.answer, made.error) == (200, "thanks", None)
    assert post.send() == 0
    assert len(there.got) == 1


def test_the_signature_is_the_standard_s() -> None:
    """The test vector of the reference implementations."""
    message = sender.Message(
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        attempt=1,
        webhook="whk_1",
        owner="default",
        event="webhook.test",
        url="https://hooks.example/",
        body='{"test": 2432232314}',
        secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
    )
    at = sender.datetime.fromtimestamp(1614265330, sender.UTC)
    headers = sender.signed(message, at)
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_was_down_gets_it_later_under_the_same_id(
    post: Post, there: Receiver
) -> None:
    hook = post.hook(there.url)
    there.status, there.answer = 503, b"later"
    post.job()
    post.send()
    first = post.only(hook)
    assert first.status is DeliveryStatus.PENDING
    assert first.next_attempt_at is not None
    assert 4 < (first.next_attempt_at - first.log[0].at).total_seconds() < 8
    assert post.send() == 0, "before its time"
    post.let_pass(7)
    post.send()
    there.status = 204
    post.let_pass(400)
    post.send()
    last = post.only(hook)
    assert last.status is DeliveryStatus.DELIVERED
    assert [made.response_status for made in last.log] == [503, 503, 204]
    assert last.log[0].answer == "later"
    assert {got.headers["webhook-id"] for got in there.got} == {last.id}
    for got in there.got:
        Webhook(hook.secret).verify(got.body, got.headers)


@ON_SQLITE
def test_the_attempts_end_after_three_days_and_can_be_begun_anew(
    post: Post, there: Receiver
) -> None:
    hook = post.hook(there.url)
    there.status = 500
    post.job()
    rounds = 0
    while post.send():
        rounds += 1
        post.let_pass(30 * 3600)
        post.webhooks.change(hook.id, WebhookChange(enabled=True))
    assert rounds == MOST_ATTEMPTS
    assert post.only(hook).status is DeliveryStatus.FAILED
    there.status = 200
    again = post.webhooks.retry(hook.id, post.only(hook).id)
    assert (again.status, again.ended_at) == (DeliveryStatus.PENDING, None)
    post.send()
    assert post.only(hook).status is DeliveryStatus.DELIVERED
    assert len(post.only(hook).log) == MOST_ATTEMPTS + 1


@ON_SQLITE
def test_what_has_arrived_can_be_sent_again(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    post.job()
    post.send()
    post.webhooks.retry(hook.id, post.only(hook).id)
    post.send()
    assert [got.headers["webhook-id"] for got in there.got] == [post.only(hook).id] * 2


# --- crashes and several senders -----------------------------------------------------------------
def test_a_sender_that_dies_leaves_the_delivery_to_the_next(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    post.job()
    (message,) = post.sender._claim(10)  # And no word from it again.
    assert post.send() == 0
    post.let_pass(post.settings.webhook_timeout_seconds + sender.LEASE_MARGIN_SECONDS + 1)
    assert post.send() == 1
    assert there.got[0].headers["webhook-id"] == message.id
    # The late report of the first changes nothing.
    post.sender._settle(message, SendAttempt(at=0.0, seconds=1.0, error="late"))
    delivery = post.only(hook)
    assert delivery.status is DeliveryStatus.DELIVERED
    assert [made.error for made in delivery.log] == [sender.LOST, None]


def test_of_several_senders_one_sends(post: Post, there: Receiver) -> None:
    for _ in range(4):
        post.hook(there.url)
    post.job(2)
    senders = [Sender(post.database, post.settings) for _ in range(4)]
    barrier = threading.Barrier(4)

    def run(each: Sender) -> None:
        barrier.wait()
        each.round()
        each.wait(10)

    threads = [threading.Thread(target=run, args=(each,)) for each in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    post.send(3)
    ids = [got.headers["webhook-id"] for got in there.got]
    assert len(ids) == 8
    assert len(set(ids)) == 8


def test_a_deleted_webhook_gets_nothing_more(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    post.job()
    (message,) = post.sender._claim(10)
    post.webhooks.delete(hook.id)
    post.sender._settle(message, SendAttempt(at=0.0, seconds=1.0, response_status=200))
    assert post.send() == 0
    assert there.got == []
    with post.database.read() as session:
        assert session.scalar(select(func.count()).select_from(DeliveryRow)) == 0


# --- slow ones and full ones ---------------------------------------------------------------------
def test_a_slow_receiver_does_not_hold_up_the_others(post: Post, there: Receiver) -> None:
    go_on = threading.Event()
    with receiver() as slow:
        slow.before = lambda: go_on.wait(20)
        for _ in range(3):
            post.hook(slow.url)
        post.job(6)
        quick = post.hook(there.url, owner="bob")
        post.webhooks.of(Caller(owner="bob")).test(quick.id)
        began = time.monotonic()
        for _ in range(3):
            post.sender.round()
        there.wait_for(1)
        assert time.monotonic() - began < 3
        slow.wait_for(sender.AT_ONCE_PER_OWNER)
        time.sleep(0.1)
        assert len(slow.got) == sender.AT_ONCE_PER_OWNER
        go_on.set()
        post.sender.wait(10)
        post.send(3)
        assert len(slow.got) == 18


def test_there_are_limits_for_each_webhook_each_owner_and_all() -> None:
    due = [(f"d{n}", f"w{n // 10}", f"o{n // 20}") for n in range(200)]
    chosen = sender._chosen(due, sender.Counter(), sender.AT_ONCE)
    assert len(chosen) == sender.AT_ONCE
    assert chosen[:8] == [f"d{n}" for n in (0, 1, 2, 3, 10, 11, 12, 13)]
    assert sender._chosen(due[:20], sender.Counter({"w0": 3, "owner o0": 3}), 32) == [
        *("d0", "d10", "d11", "d12", "d13"),
    ]


# --- pings, rotation, disabling ------------------------------------------------------------------
@ON_SQLITE
def test_a_ping_is_sent_once_also_to_a_webhook_that_is_off(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    post.webhooks.change(hook.id, WebhookChange(enabled=False))
    there.status = 500
    asked = post.webhooks.test(hook.id).body
    post.send()
    post.let_pass(10)
    assert post.send() == 0
    delivery = post.webhooks.delivery(hook.id, asked["id"])
    assert delivery.status is DeliveryStatus.FAILED
    body = Webhook(hook.secret).verify(there.got[0].body, there.got[0].headers)
    assert body["data"] == {"webhook": hook.id}
    assert post.webhooks.get(hook.id).failing_since is None
    there.status = 200
    post.webhooks.retry(hook.id, asked["id"])
    post.send()
    assert post.webhooks.delivery(hook.id, asked["id"]).status is DeliveryStatus.DELIVERED


@ON_SQLITE
def test_both_secrets_sign_while_one_is_exchanged(post: Post, there: Receiver) -> None:
    old = post.hook(there.url)
    new = post.webhooks.rotate(old.id, Rotation(grace_hours=1))
    assert new.secret != old.secret
    post.webhooks.test(old.id)
    post.send()
    for secret in (old.secret, new.secret):
        Webhook(secret).verify(there.got[0].body, there.got[0].headers)
    post.let_pass(3700)
    post.webhooks.test(old.id)
    post.send()
    Webhook(new.secret).verify(there.got[1].body, there.got[1].headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(old.secret).verify(there.got[1].body, there.got[1].headers)


def test_a_webhook_at_which_nothing_arrives_is_disabled_and_waits(
    post: Post, there: Receiver
) -> None:
    hook = post.hook(there.url)
    there.status = 500
    post.job()
    post.send()
    assert post.webhooks.get(hook.id).failing_since is not None
    post.let_pass(post.settings.webhook_give_up_days * 86_400)
    post.send()
    shown = post.webhooks.get(hook.id)
    assert not shown.enabled
    assert "Nothing has arrived for 5.0 days" in (shown.disabled_reason or "")
    assert "answered 500" in (shown.disabled_reason or "")
    assert audit.newest(post.database, 1)[0].action == "webhook.disable"
    # What waited waits on, nothing new is written, and nothing is sent until it is enabled.
    post.let_pass(86_400)
    post.job()
    assert post.send() == 0
    delivery = post.only(hook)
    assert (delivery.status, delivery.next_attempt_at) == (DeliveryStatus.PENDING, None)
    with pytest.raises(Conflict, match="not enabled"):
        post.webhooks.retry(hook.id, delivery.id)
    there.status = 200
    shown = post.webhooks.change(hook.id, WebhookChange(enabled=True))
    assert (shown.enabled, shown.disabled_reason, shown.failing_since) == (True, None, None)
    post.send()
    assert post.only(hook).status is DeliveryStatus.DELIVERED


@ON_SQLITE
def test_what_arrives_in_between_keeps_a_webhook(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    there.status = 500
    post.job()
    post.send()
    post.let_pass(86_400)
    there.status = 200
    post.send()
    assert post.webhooks.get(hook.id).failing_since is None


@ON_SQLITE
def test_a_receiver_that_is_gone_is_asked_no_more(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    there.status = 410
    post.job()
    post.send()
    shown = post.webhooks.get(hook.id)
    assert not shown.enabled
    assert "410 Gone" in (shown.disabled_reason or "")


@ON_SQLITE
def test_a_receiver_that_is_forbidden_by_now_is_not_asked(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    post.job()
    strict = Sender(post.database, post.world.settings)
    strict.round()
    strict.wait(5)
    assert there.got == []
    assert "https://" in (post.only(hook).log[0].error or "")


# --- housekeeping --------------------------------------------------------------------------------
def test_deliveries_are_forgotten_after_a_while(post: Post, there: Receiver) -> None:
    hook = post.hook(there.url)
    post.job(2)
    old, young = post.deliveries(hook)
    with post.database.write() as session:
        days = post.settings.webhook_log_days
        session.execute(
            update(DeliveryRow)
            .where(DeliveryRow.id == old.id)
            .values(created_at=func.clock() - days * 86_400 - 1)
        )
    post.sender.forget()
    assert post.only(hook).id == young.id
    with pytest.raises(NotFound, match="SECATEUR_WEBHOOK_LOG_DAYS"):
        post.webhooks.delivery(hook.id, old.id)


@ON_SQLITE
def test_an_error_in_a_thread_leaves_the_delivery_due(post: Post) -> None:
    def broken(*_: object) -> SendAttempt:
        raise RuntimeError("a defect")

    hook = post.hook("http://127.0.0.1:1025/")
    post.job()
    post.sender = Sender(post.database, post.settings, broken)
    assert post.send() == 1
    delivery = post.only(hook)
    assert (delivery.status, delivery.log) == (DeliveryStatus.PENDING, ())
    assert delivery.next_attempt_at is not None


@ON_SQLITE
def test_the_reaper_sends_although_the_broker_is_away(
    post: Post, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.hook(there.url)
    post.job()
    settings = post.settings.model_copy(update={"reaper_interval_seconds": 0.02})
    reaper = Reaper(post.database, post.world.store, post.world.queue, settings)

    def away() -> None:
        raise RuntimeError("no broker")

    monkeypatch.setattr(reaper, "round", away)
    stop = threading.Event()
    thread = threading.Thread(target=reaper.run, args=(stop,))
    thread.start()
    there.wait_for(1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert json.loads(there.got[0].body)["type"] == "job.succeeded"


@ON_SQLITE
def test_the_policy_is_the_settings_own(world: World) -> None:
    assert Sender(world.database, world.settings).policy == Policy()


# --- the guide's receiver ------------------------------------------------------------------------
@ON_SQLITE
def test_the_guide_s_receiver_verifies_what_it_gets(post: Post) -> None:
    found = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (code,) = [each for each in found if "standardwebhooks" in each]
    assert "8900" in code
    port = free_port()
    hook = post.hook(f"http://127.0.0.1:{port}/")
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace("8900", str(port))],
        env=os.environ | {"WEBHOOK_SECRET": hook.secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        post.job()
        post.send()
        delivery = post.only(hook)
        assert delivery.status is DeliveryStatus.DELIVERED, delivery.log
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"{delivery.id} job.succeeded ")
        post.webhooks.rotate(hook.id, Rotation(grace_hours=0))
        post.webhooks.test(hook.id)
        post.send()
        assert post.deliveries(hook)[-1].log[0].response_status == 400
    finally:
        process.kill()
        process.communicate()
