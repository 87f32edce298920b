"""The command line: `python -m bench` and its subcommands.

Owns arguments and exit codes. Must not measure or format anything itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
from pathlib import Path

from redis import RedisError

from bench import checks, compare, instructions, profiling
from bench.children import StartError, stoppable
from bench.holding import HoldError
from bench.load import LoadError
from bench.polling import PollError
from bench.scale import command as scale
from bench.scale.fleet import FleetError

RESULTS = Path(__file__).with_name("RESULTS.md")
EXAMPLES = """\
examples:
  python -m bench --quick                              the essential scenarios, about a minute
  python -m bench --peers sidecar,haproxy --scenarios small --rounds 15
  python -m bench --write-results                      everything, into bench/RESULTS.md
  python -m bench checks                               all checks except soak
  python -m bench checks --only near,cold              the cost of sessions in Redis
  python -m bench checks --only soak                   ten minutes of load, misbehaving clients
  python -m bench profile --scenario mixed             the sidecar under a profiler
  python -m bench scale --quick                        what many pods cost one Redis

All programs run on loopback with one worker each and end with the run. CPU is the time of the
proxy's own processes, without the client and the upstream. Compare ratios within one run, because
a busy machine raises the cost of every proxy. Exit status: 0; 1 if a bar is missed or a response is
wrong with --strict, a check fails or a program does not start; 2 for an invalid argument; 3 if no
check fails, but the machine was too slow or too busy to decide some of them.
"""


def build_parser() -> argparse.ArgumentParser:
    """Make the parser: options of the comparison at the top level, the others as subcommands."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compare the sidecar with other proxies: CPU, rate, latency, memory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_arguments(parser)
    parser.set_defaults(run=compare.run)
    commands = parser.add_subparsers(title="other commands", metavar="")
    checks.add_parser(commands)
    profiling.add_parser(commands)
    instructions.add_parser(commands)
    scale.add_parser(commands)
    for each in (parser, *commands.choices.values()):
        each.set_defaults(results=RESULTS)
    return parser


def main() -> int:
    """Run the selected command and return its exit status."""
    scripts = sysconfig.get_path("scripts")  # of Envoy and Traefik, which are wheels
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{scripts}:/usr/sbin:/sbin"
    arguments = build_parser().parse_args()
    try:
        with stoppable():
            status: int = arguments.run(arguments)
    except (StartError, LoadError, HoldError, PollError, FleetError, RedisError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: stopped\n")
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
