"""What writes cost: logins, refreshes, logouts and expiries, by the pods that track their keys.

Also how long it takes until all pods know of a change. Must not fit or show anything.
"""

from __future__ import annotations

import socket
import threading
import time
from statistics import median
from typing import TYPE_CHECKING

import hiredis

from bench.scale.clients import known_of
from bench.scale.fleet import FleetError
from bench.scale.gauge import Price
from bench.scale.points import Delivery, Rest, Write
from bench.scale.population import PodCommands, known
from bench.scale.tally import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.scale.subject import Subject

LATE_SECONDS = 0.1  # after which a session has expired for certain
READ_BATCH = 100


def measure_growth(subject: Subject) -> tuple[list[Rest], list[Write]]:
    """Start the pods step by step; at each step, measure Redis at rest and writes that none tracks.

    The last step leaves all pods running.
    """
    plan, rests, writes = subject.plan, [], list[Write]()
    for pods in (0, *plan.pods):
        subject.fleet.start(pods - subject.fleet.pods)
        time.sleep(plan.settle)
        idle = subject.gauge.share(plan.rest)
        now = subject.gauge.read()
        rests.append(Rest(pods, now.clients, idle, now.memory))
        writes += measure_writes(subject, 0, idle)
    return rests, writes


def measure_tracked(subject: Subject, commands: PodCommands) -> list[Write]:
    """Measure writes whose keys some of the pods track."""
    idle, found = subject.gauge.share(subject.plan.rest), list[Write]()
    for pods in (0, *subject.plan.pods):
        # Nobody tracks the keys of a login before it.
        found += [
            each for each in measure_writes(subject, pods, idle) if each.kind != "login" or not pods
        ]
        found.append(measure_expiry(subject, commands, pods, idle))
    return found


def measure_writes(subject: Subject, pods: int, idle: float) -> Iterator[Write]:
    """Measure logins, refreshes and logouts. So many pods have read the keys of the last two."""
    number, users = subject.plan.number_of_writes(pods), subject.users
    connected, gauge = subject.fleet.pods, subject.gauge
    with Price(gauge, idle) as price:
        logins = users.log_in(2 * number)
    yield Write("login", connected, 0, price.each(2 * number))
    if pods:
        subject.fleet.read(pods, known_of(logins), batch=READ_BATCH)
    with Price(gauge, idle) as price:
        users.refresh(logins[:number])
    yield Write("refresh", connected, pods, price.each(number))
    with Price(gauge, idle) as price:
        users.log_out(logins[number:])
    yield Write("logout", connected, pods, price.each(number))


def measure_expiry(subject: Subject, commands: PodCommands, pods: int, idle: float) -> Write:
    """Measure sessions that expire. Raises FleetError if they do so too early or not at all.

    Redis notices at the latest when it is asked for the session. Its own search for what has
    expired costs the same per session, but finds few of many. The pods read after the time is set,
    because setting it is a change of which they are notified.
    """
    number, life = subject.plan.number_of_writes(pods), subject.plan.expiry
    first, end = numbers = subject.take(number)
    tokens = [known(each).token for each in range(first, end)]
    with socket.create_connection(("127.0.0.1", subject.lab.redis_port), timeout=30) as line:
        began = time.monotonic()
        send(line, b"".join(commands.expire(each, life) for each in tokens), number)
        if pods:
            subject.fleet.read(pods, numbers=numbers, batch=READ_BATCH, seen=False)
        if time.monotonic() > began + life:
            raise FleetError(f"{pods} pods took more than {life:g} s to read {number} sessions")
        before = subject.gauge.read().expired
        time.sleep(began + life + LATE_SECONDS - time.monotonic())
        groups = [tokens[at : at + READ_BATCH] for at in range(0, number, READ_BATCH)]
        with Price(subject.gauge, idle) as price:
            send(line, b"".join(map(commands.look_up, groups)), len(groups))
    if (expired := subject.gauge.read().expired - before) < number:
        raise FleetError(f"of {number} sessions, only {expired} expired")
    return Write("expiry", subject.fleet.pods, pods, price.each(number))


def send(line: socket.socket, wanted: bytes, replies: int) -> None:
    """Send these commands, and return after all replies. Raises FleetError for an error."""
    reader = hiredis.Reader()
    sending = threading.Thread(target=line.sendall, args=(wanted,))
    sending.start()
    while replies:
        reader.feed(line.recv(65536))
        while (reply := reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise FleetError(f"Redis answers: {reply}")
            replies -= 1
    sending.join()


def measure_deliveries(subject: Subject, commands: PodCommands) -> list[Delivery]:
    """Delete sessions one by one, and measure when each of the pods that track them knows."""
    return [measure_delivery(subject, commands, pods) for pods in subject.plan.pods]


def measure_delivery(subject: Subject, commands: PodCommands, pods: int) -> Delivery:
    """Delete sessions that so many pods have read."""
    changes = subject.plan.changes
    numbers = subject.take(changes)
    subject.fleet.read(pods, numbers=numbers, batch=READ_BATCH, seen=False)
    delays: list[list[float]] = []
    with socket.create_connection(("127.0.0.1", subject.lab.redis_port), timeout=10) as line:
        for number in range(*numbers):
            token = known(number).token
            subject.fleet.watch(pods, token)
            began = time.monotonic()
            line.sendall(commands.delete(token))
            delays.append([(at - began) * 1e3 for at in subject.fleet.receipts()])
            line.recv(64)
    every = [delay for each in delays for delay in each]
    return Delivery(
        pods,
        changes,
        percentile(every, 0.5),
        percentile(every, 0.99),
        max(every),
        median(max(each) for each in delays),
    )
