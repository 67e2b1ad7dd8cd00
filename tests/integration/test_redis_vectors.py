# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector sets, which Redis has since 8.0 and can write no commands of: their content is proven all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restaura.host import Host
from restaura.sources import Target
from tests.redis_server import LATER, Server, leftovers, make_host, run, scratch_root, source, taken


@pytest.fixture
def host() -> Iterator[Host]:
    with scratch_root("/var/tmp/rdv") as root:
        yield make_host(root)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with vector sets of both kinds of numbers, one of which expires, and other keys."""
    folder = Path("/var/tmp/rdv-live")
    run("rm", "-rf", str(folder))
    made = Server(folder, 6397, ["appendonly yes"])
    try:
        made.start()
        lines = [f"""VADD vectors VALUES 3 {n} 2 1 item{n} SETATTR '{{"n":{n}}}'""" for n in range(20)]
        lines += ["SET plain 1", "SELECT 3", "VADD exact VALUES 3 1 2 3 a NOQUANT", f"PEXPIREAT exact {LATER}123"]
        made.cli(stdin="\n".join(lines))
        yield made
    finally:
        made.stop(kill=True)
        run("rm", "-rf", str(folder))


def test_vector_sets_are_proven_drilled_and_restored(server: Server, host: Host) -> None:
    own = source(host, server)
    point = taken(own)
    known = point.record.fingerprint
    assert known is not None
    assert known.depth == "content"
    assert known.counts == {"db0 keys": 2, "db3 keys": 1, "db3 keys that expire": 1}
    with own.scratch() as target:
        staged = own.stage(point, target)
        assert known.differences(own.fingerprint(staged, "content")) == []
        # What checks look at is whole.
        assert run("redis-cli", "-s", own.checks(staged)["RESTAURA_TARGET"], "VCARD", "vectors").strip() == "20"
    server.cli("DEL", "vectors")
    staged = own.stage(point, Target("live"))
    assert known.differences(own.fingerprint(staged, "content")) == []
    record = own.plan_swap(staged)
    own.swap(record)
    assert server.cli("VCARD", "vectors") == "20"
    own.undo(record)
    assert server.cli("EXISTS", "vectors") == "0"
    own.discard(record)
    host.journal.settle(staged.data["debt"])
    assert leftovers(host) == []


@pytest.mark.parametrize(
    "change",
    [
        ("VSETATTR", "vectors", "item7", '{"n":8}'),
        ("VADD", "vectors", "VALUES", "3", "7", "2", "2", "item7"),
        ("VREM", "vectors", "item7"),
        ("RENAME", "vectors", "others"),
    ],
    ids=lambda change: change[0],
)
def test_a_change_of_a_vector_set_shows_in_the_fingerprint(server: Server, host: Host, change: tuple[str, ...]) -> None:
    before, _ = taken(source(host, server)).record.fingerprint, server.cli(*change)
    after = taken(source(host, server)).record.fingerprint
    assert before is not None
    assert after is not None
    assert [one for one in before.differences(after) if "vector set" in one]
