"""The users file: any text yields users or problems with a place, without a password hash."""

from __future__ import annotations

import json
from typing import Final

from sidecar.api.users import parse_users
from sidecar.errors import ConfigError

HASH: Final = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$eGdOeHJCRzVtTHJzbUJqSw"


def check(data: bytes) -> None:
    """Parse the text, in which `@HASH@` stands for a password hash."""
    text = data.decode("utf-8", "replace").replace("@HASH@", HASH)
    try:
        users = parse_users(text, "users.toml")
    except ConfigError as error:
        assert error.problems
        assert all(problem.where and problem.message for problem in error.problems)
        return
    assert len({user.name for user in users}) == len(users)
    for user in users:
        assert users.find(user.name) is user
        assert user.name.isprintable() or user.name.strip()
        assert user.password_hash not in repr(user)
        assert not {"iss", "aud", "exp", "sub", "sid"} & set(user.claims)
        json.dumps(dict(user.claims), allow_nan=False).encode()
