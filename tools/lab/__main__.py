# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the lab: `tools/lab/lab VERB`, printing JSON where a program reads it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from tools.lab import daemon, hosts, images, s3, stack, wheels
from tools.lab.common import LabError


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(prog="tools/lab/lab", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="make the Docker daemon run and build the images, where they are missing")
    up.add_argument("images", nargs="*", metavar="IMAGE", help=f"{', '.join(images.RECIPES)} (default: all)")
    verbs.add_parser("down", help="remove every host and the S3 server of this clone; images stay")
    verbs.add_parser("hosts", help="list the running hosts as JSON")

    host = verbs.add_parser("host", help="create or destroy a host").add_subparsers(dest="act", required=True)
    create = host.add_parser("create", help="create a host (removing one of that name) and print how it is reached")
    create.add_argument("name")
    create.add_argument("--image", default="debian13", choices=list(images.RECIPES))
    create.add_argument("--no-init", action="store_true", help="nothing runs in it, as in a bare container")
    create.add_argument("--mount", action="append", default=[], metavar="SRC:DST[:ro]")
    create.add_argument("--stack", action="store_true", help=f"give it what an AI stack needs, at {stack.PLACE}")
    host.add_parser("destroy", help="remove a host and its volumes").add_argument("name")

    execute = verbs.add_parser("exec", help="run a command in a host as root")
    execute.add_argument("name")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("s3", help="start or stop a real S3 server for this clone").add_argument(
        "act", choices=("up", "down")
    )
    verbs.add_parser("wheels", help="download what make setup_backup installs, for hosts that reach no PyPI")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command; return the exit code."""
    told = parser().parse_args(arguments)
    try:
        return _do(told)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _do(told: argparse.Namespace) -> int:
    if told.verb == "up":
        daemon.up()
        images.up(*told.images)
    elif told.verb == "down":
        s3.down()
        if daemon.answers():
            hosts.down()
    elif told.verb == "hosts":
        print(json.dumps([asdict(host) for host in hosts.all_hosts()], indent=2))
    elif told.verb == "host" and told.act == "create":
        daemon.up()
        mounts = [*told.mount, *(stack.mounts() if told.stack else ())]
        print(json.dumps(asdict(hosts.create(told.name, told.image, not told.no_init, mounts))))
    elif told.verb == "host":
        hosts.destroy(told.name)
    elif told.verb == "exec":
        return hosts.execute(told.name, told.command)
    elif told.verb == "s3" and told.act == "up":
        daemon.up()
        print(json.dumps(asdict(s3.up())))
    elif told.verb == "s3":
        s3.down()
    elif told.verb == "wheels":
        print(wheels.up())
    return 0


if __name__ == "__main__":
    sys.exit(main())
