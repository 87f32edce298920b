"""`sidecar check`: reports every problem of a configuration, or prints the settings in effect.

Warnings are printed in any case. They decide the answer only with `--strict`.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sidecar.app import build
from sidecar.cli.loading import load_arguments
from sidecar.cli.terminal import complain, say
from sidecar.errors import ConfigError
from sidecar.settings import print_config

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from sidecar.errors import ConfigWarning, Problem


def check(arguments: Namespace) -> bool:
    """Read the configuration and every file that it names. Raises ConfigError.

    Returns whether it is usable: always, but with `--strict` only if there are no warnings.
    """
    try:
        loaded = load_arguments(arguments)
        settings = loaded.settings
        components = build.make_components(settings)
    except ConfigError as error:
        if arguments.json:
            say(_as_json(problems=error.problems, warnings=()))
        raise
    warnings = loaded.warnings + build.config_warnings(settings, components, time.time())
    answer = not (arguments.strict and warnings)
    if arguments.json:
        say(_as_json(problems=(), warnings=warnings))
        return answer
    complain(*(f"warning: {each}" for each in warnings))
    if arguments.print_config:
        say(print_config(settings, loaded.origins), end="")
        return answer
    routes = f"{len(settings.route)} route{'' if len(settings.route) == 1 else 's'}"
    store = "Redis" if settings.session_store == "redis" else "local memory"
    found = f"no problems, {_counted(warnings)}" if warnings else "no problems"
    say(f"{found}: {settings.listen} to {settings.upstream_url}, {routes}, sessions in {store}")
    return answer


def _as_json(*, problems: Sequence[Problem], warnings: Sequence[ConfigWarning]) -> str:
    return json.dumps(
        {
            "usable": not problems,
            "problems": [asdict(each) for each in problems],
            "warnings": [asdict(each) for each in warnings],
        }
    )


def _counted(warnings: Sequence[ConfigWarning]) -> str:
    return f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"
