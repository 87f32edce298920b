"""A real Redis Cluster: its nodes, and what an operator does to them."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from redis.crc import key_slot

from sidecar.secret import Secret
from tests.peers.redis_server import RedisServer, free_port
from tests.topologies.pod import SOON

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = 16384


class Node(RedisServer):
    """A server in cluster mode. `options` are configuration directives."""

    def __init__(self, *options: str, program: str = "") -> None:
        self.bus = free_port()
        super().__init__(
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus)),
            *("--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0", *options),
            program=program,
        )

    @property
    def name(self) -> str:
        """The node's id in the cluster."""
        answer = self.command("CLUSTER", "MYID")
        assert isinstance(answer, bytes)
        return answer.decode()

    def state(self) -> dict[str, str]:
        """The node's CLUSTER INFO."""
        answer = self.command("CLUSTER", "INFO")
        assert isinstance(answer, bytes)
        return dict(line.split(":", 1) for line in answer.decode().splitlines())

    def join(self, other: Node) -> None:
        """Introduce the node to the cluster of another one."""
        other.command("CLUSTER", "MEET", "127.0.0.1", str(self.port), str(self.bus))


@contextmanager
def cluster(*options: str, replicas: int = 0, program: str = "") -> Iterator[list[Node]]:
    """Three primaries, each with a third of the slots; then replicas of the first, then others."""
    with ExitStack() as running:
        made = [running.enter_context(Node(*options, program=program)) for _ in range(3 + replicas)]
        for number, node in enumerate(made[:3]):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in made[1:]:
            node.join(made[0])
        joined(made, "cluster_known_nodes", str(len(made)))
        for node in made[3:]:
            node.command("CLUSTER", "REPLICATE", made[0].name)
        joined(made, "cluster_state", "ok")
        yield made


def joined(nodes: list[Node], name: str, value: str) -> None:
    """Wait until every node's CLUSTER INFO has this value."""
    end = time.monotonic() + SOON
    while not all(node.state()[name] == value for node in nodes):
        assert time.monotonic() < end
        time.sleep(0.05)


def where(nodes: list[Node]) -> dict[str, Secret]:
    """A configuration with the URL of two nodes."""
    return {"url": Secret(f"redis+cluster://127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[2].port}")}


def slot_of(key: bytes) -> int:
    """The slot of a key."""
    return key_slot(key)


def owner_of(slot: int, nodes: list[Node]) -> Node:
    """The primary that owns this slot, as the second node sees it."""
    answer = nodes[1].command("CLUSTER", "SLOTS")
    assert isinstance(answer, list)
    for first, last, (_, port, *_), *_ in answer:
        if first <= slot <= last:
            return next(node for node in nodes if node.port == port)
    raise LookupError(f"slot {slot} has no owner")


def begin_move(slot: int, source: Node, target: Node) -> None:
    """Begin to move a slot: from now on, the target has the keys that the source lacks."""
    target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.name)
    source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.name)


def move_keys(slot: int, source: Node, target: Node) -> None:
    """Move the keys of a slot, one command each."""
    keys = source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "1000")
    assert isinstance(keys, list)
    for key in keys:
        source.admin.migrate("127.0.0.1", target.port, key, 0, 5000)


def end_move(slot: int, source: Node, target: Node) -> None:
    """Make the target the owner of a slot, at the nodes concerned; others learn it from them."""
    for node in (target, source):
        node.command("CLUSTER", "SETSLOT", str(slot), "NODE", target.name)
