"""Runs pipelines on any topology, and reads their answers. Knows no keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from redis.asyncio.cluster import RedisCluster

from sidecar.sessions.redis.faults import Fault, classify
from sidecar.sessions.redis.login_hash import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

T = TypeVar("T")


def checked(answers: list[T]) -> list[T]:
    """A pipeline's answers. Raises the first error among them, unchanged.

    The library would add the command to its message, with key and value. A cluster's pipeline also
    returns connection errors as answers.
    """
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def is_of_another_kind(answer: object) -> bool:
    """Whether the answer says that the key holds another type. Raises any other error."""
    if not isinstance(answer, Exception):
        return False
    if classify(answer) is not Fault.WRONG_TYPE:
        raise answer
    return True


async def flush_in_cluster(pipe: Any, redis: Redis) -> list[Any]:
    """In a cluster, execute the pipeline so far. A single server keeps the order anyway."""
    if not isinstance(redis, RedisCluster):
        return []
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    return answers


async def clear_other_kinds(kinds: Mapping[bytes, bytes], redis: Redis) -> None:
    """Delete those of these keys that hold another type than the given one."""
    async with redis.pipeline(transaction=False) as pipe:
        for key in kinds:
            pipe.type(key)
        found = await pipe.execute()
        for (key, expected), actual in zip(kinds.items(), found, strict=True):
            if actual not in (expected, b"none"):
                pipe.delete(key)
        await pipe.execute()


def fields_in(answer: object) -> dict[str, bytes]:
    """A hash's fields. A key of another type has none."""
    if is_of_another_kind(answer) or not isinstance(answer, dict):
        return {}
    return {text_of(name): value for name, value in answer.items()}
