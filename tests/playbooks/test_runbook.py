# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook is typed at a terminal: on the host that lost data, and on a clean one that has only the kit."""

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.playbooks.runs import sh
from tools.build_runtime import build
from tools.lab import hosts

pytestmark = pytest.mark.timeout(900)

LINE_SECONDS = 300
SEED = r"""set -eu
useradd --system --home-dir /srv/shop shop
mkdir -p /srv/shop/uploads && cd /srv/shop
for n in $(seq 40); do seq $n > "uploads/order $n.txt"; done
ln uploads/order\ 7.txt hard-link; ln -s uploads link; truncate -s 20M sparse; chmod 640 uploads/*
python3 -c "import sqlite3; sqlite3.connect('sessions.db').executescript('create table s(v); insert into s values (1)')"
chown -R shop: /srv/shop
systemctl start postgresql; until su postgres -c 'psql -qc "select"'; do sleep 0.2; done
systemctl start redis-server; until redis-cli ping; do sleep 0.2; done
redis-cli set visits 41; redis-cli rpush "a list" one "two words" three
su postgres -c psql > /dev/null << 'SQL'
create role shop login password 'not a secret';
create database shop owner shop;
\c shop
create table orders(id int primary key, what text);
insert into orders select n, 'thing ' || n from generate_series(1, 5000) n;
alter table orders owner to shop;
SQL
"""
CONTENT = (
    "find . -type f ! -name '*.db' -exec sha256sum {} + | sort -k 2; "
    "python3 -c \"import sqlite3; print(*sqlite3.connect('sessions.db').iterdump())\""
)
FILES = f"cd /srv/shop && {{ find . -printf '%p %y %m %u %g %n %l\\n' | sort; {CONTENT}; }} | sha256sum"
KEYS = "{ redis-cli get visits; redis-cli lrange 'a list' 0 -1; redis-cli dbsize; } | sha256sum"
DATABASE = (
    "su postgres -c \"psql -d shop -Atc 'select o::text from orders o order by id' -c '\\d orders' "
    "-c 'select rolname, rolpassword from pg_authid where rolname = \\$\\$shop\\$\\$'\" | sha256sum"
)


class Typist:
    """Root at a terminal of a host: types a line, waits for the prompt, and reads the exit code off it."""

    def __init__(self, host: hosts.Host) -> None:
        self._terminal, child = os.openpty()
        command = ["docker", "exec", "-it", "-w", "/root", "-e", "TERM=dumb", "-e", "PS1=<done $?>", "-e", "PS2=<more>"]
        command += [host.container, "bash", "--norc", "--noprofile", "--noediting"]
        self._process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, start_new_session=True)
        os.close(child)
        self._answer()

    def types(self, block: str) -> str:
        """Type a block's lines; every command must succeed. Return all that the terminal showed."""
        shown = ""
        for line in block.splitlines():
            os.write(self._terminal, f"{line}\n".encode())
            code, text = self._answer()
            shown += text
            assert code in {None, 0}, f"exit {code} of\n{block}\n{shown[-6000:]}"
        assert code == 0, f"not ended: {block}"
        return shown

    def leave(self) -> None:
        """End the shell."""
        os.write(self._terminal, b"exit\n")
        os.close(self._terminal)
        self._process.kill()
        self._process.wait()

    def _answer(self) -> tuple[int | None, str]:
        """Return what came up to the next prompt, and the exit code; None where the shell waits for more."""
        text, deadline = "", time.monotonic() + LINE_SECONDS
        while not (prompt := re.search(r"<(?:more|done (\d+))>$", text)):
            assert time.monotonic() < deadline, f"no prompt after {LINE_SECONDS} s: it waits for an answer?\n{text}"
            if select.select([self._terminal], [], [], 1)[0]:
                text += os.read(self._terminal, 1 << 16).decode(errors="replace")
        return (None if prompt[1] is None else int(prompt[1])), text


@dataclass
class Lost:
    """A host that is gone: what it held, and what is left of it."""

    name: str
    digests: tuple[str, str]
    keys: str
    content: str
    kit: Path
    runbook: str

    def blocks(self, heading: str) -> list[str]:
        """Return the blocks to be typed below a heading, up to the next of its rank or higher."""
        rank = heading.partition(" ")[0]
        text = self.runbook.split(f"\n{heading}\n", 1)[1]
        text = re.split(rf"^#{{2,{len(rank)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
        found = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert found, heading
        return found

    def by_hand(self, store: str, component: str, **names: str) -> str:
        """Return what puts a component back that was read from a store by hand, with the names that it leaves open."""
        text = self.runbook.split(f"\n### Store {store}\n", 1)[1].split(f"\n`{component}`: ", 1)[1]
        block = text.split("```console\n", 1)[1].split("```", 1)[0]
        for name, value in names.items():
            block = block.replace(name, value)
        return block


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory, make_host: Callable[..., hosts.Host], bucket: Any) -> Lost:
    """Back a host up, type section A on it after it lost data, and destroy it."""
    folder = tmp_path_factory.mktemp("lost")
    host = make_host("runbook", "debian13-stack")
    declaration = {
        "settings": {"host": host.name, "contacts": [{"name": "Ana Souza", "phone": "+55 11 5555-0100"}]},
        "stores": [
            {"name": "offsite", "location": f"{bucket.place}/it's {host.name}", **bucket.keys},
            {"name": "archive", "type": "dated", "encrypt": True, "location": f"{bucket.place}/plain", **bucket.keys},
        ],
        "plans": [{"name": "nightly", "drill": "never"}],
        "components": {
            "files": [{"name": "system", "paths": ["/etc"]}, {"name": "shop", "paths": ["/srv/shop"]}],
            "redis": [{"name": "sessions"}],
            "postgres": [{"name": "postgres"}],
        },
    }
    sh(host, SEED)
    subprocess.run(["docker", "cp", str(build(folder)), f"{host.container}:/usr/local/bin/restaura"], check=True)
    subprocess.run(
        ["docker", "exec", "-i", host.container, "/usr/local/bin/restaura", "configure"],
        input=json.dumps(declaration),
        text=True,
        check=True,
    )
    sh(host, "restaura run nightly")
    kit = folder / "kit"
    kit.write_text(sh(host, "restaura keys kit"))
    runbook = bucket.Object(f"it's {host.name}/RUNBOOK-{host.name}.md").get()["Body"].read().decode()
    digests = sh(host, FILES), sh(host, DATABASE)
    lost = Lost(host.name, digests, sh(host, KEYS), sh(host, f"cd /srv/shop; {CONTENT}"), kit, runbook)
    assert "| Ana Souza | - | +55 11 5555-0100 |" in runbook

    spoil = "rm /srv/shop/uploads/*9.txt; su postgres -c \"psql -qd shop -c 'delete from orders where id > 9'\""
    sh(host, f"{spoil}; redis-cli flushall")
    spoilt = sh(host, KEYS)
    *restores, undo = lost.blocks("## A. The host is there")
    root = Typist(host)
    for block in restores:
        root.types(block)
    assert (sh(host, FILES), sh(host, DATABASE)) == lost.digests
    assert sh(host, KEYS) == lost.keys
    root.types(undo)
    assert (sh(host, FILES), sh(host, DATABASE)) == lost.digests
    assert sh(host, KEYS) == spoilt
    root.leave()
    hosts.destroy(host.name)
    return lost


@pytest.fixture(scope="module")
def clean(make_host: Callable[..., hosts.Host], lost: Lost) -> Iterator[tuple[hosts.Host, Typist]]:
    """A clean machine that has the kit and nothing else, and root at its terminal."""
    host = make_host("runbook-new", "bare13")
    subprocess.run(["docker", "cp", str(lost.kit), f"{host.container}:/root/{lost.name}.kit"], check=True)
    root = Typist(host)
    yield host, root
    root.leave()


def test_a_clean_machine_becomes_the_host_by_what_the_runbook_says(
    lost: Lost, clean: tuple[hosts.Host, Typist]
) -> None:
    host, root = clean
    for block in lost.blocks("## B. The host is gone"):
        root.types(block)
    assert (sh(host, FILES), sh(host, DATABASE)) == lost.digests
    assert sh(host, KEYS) == lost.keys
    assert sh(host, "cat /root/system/etc/hostname").strip() == lost.name
    assert sh(host, "ls /etc/restaura/keys | grep -c .") != "0\n"


@pytest.mark.parametrize(("store", "place"), [("offsite", "srv/shop"), ("archive", "files/srv/shop")])
def test_the_stores_are_read_by_hand(lost: Lost, clean: tuple[hosts.Host, Typist], store: str, place: str) -> None:
    host, root = clean
    for block in lost.blocks(f"### Store {store}"):
        root.types(block)
    assert sh(host, f"cd /root/by-hand-{store}/shop/{place} && {CONTENT}") == lost.content
    sh(host, "su postgres -c 'dropdb shop; dropuser shop'; redis-cli flushall")
    root.types(lost.by_hand(store, "postgres", DATABASE="shop"))
    root.types(lost.by_hand(store, "sessions").rpartition("redis-cli CONFIG")[0])
    assert sh(host, DATABASE) == lost.digests[1]
    assert sh(host, KEYS) == lost.keys
