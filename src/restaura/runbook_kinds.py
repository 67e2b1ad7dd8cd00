# SPDX-License-Identifier: GPL-3.0-or-later
"""What a runbook says of each kind of source: the server that its data comes back to, and how it goes back by hand."""

import shlex
from collections.abc import Callable
from urllib.parse import urlsplit

from restaura.config.schema import Component

HERE = ("", "localhost", "127.0.0.1", "::1")
# By kind: the server, Debian's packages of it, and which of others' will do.
SERVERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "postgres": ("PostgreSQL", ("postgresql",), ""),
    "redis": ("Redis", ("redis-server",), ""),
    "prometheus": ("Prometheus", ("prometheus",), ""),
    "mongodb": ("MongoDB", (), "mongodb.com's, at least as new as the one that was"),
    "qdrant": ("Qdrant", (), "qdrant.tech's, of the minor version that was, or the next"),
    "grafana": ("Grafana", (), "grafana.com's, at least as new as the one that was"),
}


def debian_packages(kind: str, one: Component) -> tuple[str, ...]:
    """Return Debian's packages of the server that a component comes back to on this host."""
    return SERVERS[kind][1] if kind in SERVERS and not _container(one) and not elsewhere(one) else ()


def needed(kind: str, one: Component) -> str:
    """Return what must be there before a component is restored; nothing for files."""
    if kind == "docker_volumes":
        return "Docker with Compose, without containers yet: Debian's `docker.io` and `docker-compose`, or docker.com's"
    if kind == "langsmith":
        return f"LangSmith at `{elsewhere(one) or 'its address'}`, which must answer from here"
    if kind not in SERVERS:
        return ""
    name, packages, whose = SERVERS[kind]
    if container := _container(one):
        return (
            f"{name} in the container `{container}`, made and started; if a component has its Compose file, that first"
        )
    if there := elsewhere(one):
        return f"{name} at `{there}`, which must answer from here"
    if packages:
        return f"{name}: `{'`, `'.join(packages)}`, installed above"
    return f"{name}, **which is not Debian's**: install and start {whose}"


def elsewhere(one: Component) -> str:
    """Return the other host that a component's server runs on, or nothing."""
    host = str(getattr(one, "host", "")) or urlsplit(str(getattr(one, "url", ""))).hostname or ""
    return "" if host in HERE else host


def by_hand(kind: str, one: Component, folder: str) -> str:
    """Return how a component whose artifacts are in `folder`, its trees as directories, is put back without Restaura.

    The commands are those of the servers' own manuals; the files are those of docs/sources. Redirections are done by
    root's shell, since no server's account can read below /root.
    """
    write = BY_HAND.get(kind)
    return f"`{one.name}`: {write(one, folder)}" if write else f"`{one.name}`: what there is is in `{folder}`."


def _container(one: Component) -> str:
    return str(getattr(one, "container", ""))


def _quoted(one: Component) -> str:
    return shlex.quote(_container(one))


def _console(*lines: str) -> str:
    return "\n".join(["", "", "```console", *lines, "```"])


def _postgres(one: Component, folder: str) -> str:
    user = shlex.quote(str(getattr(one, "user", "") or "postgres"))
    how = {"psql": "runuser -u postgres -- psql", "pg_restore": "runuser -u postgres -- pg_restore"}
    if _container(one):
        how = {program: f"docker exec -i {_quoted(one)} {program} -U {user}" for program in how}
    elif there := elsewhere(one):
        how = {program: f"{program} -h {shlex.quote(there)} -U {user}" for program in how}
    return "roles first (that one is there already is no harm), then each database." + _console(
        "cd /",
        f"{how['psql']} -d postgres < {folder}/globals.sql",
        f"ls {folder}/databases",
        f"{how['pg_restore']} -C -d postgres < {folder}/databases/DATABASE.dump",
    )


def _redis(one: Component, folder: str) -> str:
    if _container(one):
        return "the server reads `dump.rdb` at its start, unless AOF is on there." + _console(
            f"docker stop {_quoted(one)}",
            f"docker cp {folder}/dump.rdb {_quoted(one)}:/data/dump.rdb",
            f"docker start {_quoted(one)}",
        )
    where = f" On `{elsewhere(one)}`:" if elsewhere(one) else ""
    return f"the server reads `dump.rdb` at its start, with AOF off.{where}" + _console(
        "systemctl stop redis-server",
        "if [ -e /var/lib/redis/appendonlydir ]; then mv /var/lib/redis/appendonlydir /root/redis-before; fi",
        "sed -i 's/^appendonly yes/appendonly no/' /etc/redis/redis.conf",
        f"install -o redis -g redis -m 660 {folder}/dump.rdb /var/lib/redis/dump.rdb",
        "systemctl start redis-server && redis-cli INFO keyspace",
        "redis-cli CONFIG SET appendonly yes      # only if it was on; then set `appendonly yes` again",
    )


def _mongodb(one: Component, folder: str) -> str:
    note = "with MongoDB's Database Tools, which are not Debian's; `-u USER` where the server asks for a password."
    if _container(one):
        return note + _console(
            f"docker cp {folder}/dump {_quoted(one)}:/tmp/dump",
            f"docker exec -it {_quoted(one)} mongorestore --drop --dir=/tmp/dump",
        )
    host = f"--host {shlex.quote(there)} " if (there := elsewhere(one)) else ""
    return note + _console(f"mongorestore {host}--drop --dir={folder}/dump")


def _qdrant(one: Component, folder: str) -> str:
    url = str(getattr(one, "url", "")) or "http://127.0.0.1:6333"
    if _container(one):
        url = f"http://ADDRESS:{getattr(one, 'port', 6333)}"
    alone = len(getattr(one, "collections", ())) == 1
    snapshot = f"{folder}/{'' if alone else 'COLLECTION/'}snapshot.snapshot"
    text = "each collection; where the server asks for a key, write `api-key: KEY` into a file, and add `-H @FILE`."
    text += " Aliases and settings are in `aliases.json`: `POST /collections/aliases` makes aliases."
    address = f"{url.rstrip('/')}/collections/COLLECTION/snapshots/upload?priority=snapshot&wait=true"
    return text + _console(f"ls {folder}", f"curl -f -X POST -F snapshot=@{snapshot} '{address}'")


def _grafana(one: Component, folder: str) -> str:
    export = f" Dashboards alone: import the files below `{folder}/dashboards` in its web interface."
    key = (
        "grafana.ini and the environment (`server.json`) hold the key that opens the secrets in grafana.db: never one "
    )
    key += "without the other."
    if _container(one):
        name = _quoted(one)
        return f"{key} Paths are those of Grafana's own image.{export}" + _console(
            f"docker stop {name}",
            f"docker cp {folder}/grafana.db {name}:/var/lib/grafana/grafana.db",
            f"docker start {name} && docker exec -u root {name} chown grafana /var/lib/grafana/grafana.db",
        )
    return f"{key} `plugins.json` names the plugins: `grafana cli plugins install ID`.{export}" + _console(
        "systemctl stop grafana-server",
        f"install -o root -g grafana -m 640 {folder}/grafana.ini /etc/grafana/grafana.ini",
        "rm -f /var/lib/grafana/grafana.db-wal /var/lib/grafana/grafana.db-shm",
        f"install -o grafana -g grafana -m 640 {folder}/grafana.db /var/lib/grafana/grafana.db",
        f"if [ -d {folder}/provisioning ]; then cp -a {folder}/provisioning/. /etc/grafana/; fi",
        "systemctl start grafana-server",
    )


def _prometheus(one: Component, folder: str) -> str:
    data = shlex.quote(str(getattr(one, "data_directory", "")) or "/var/lib/prometheus/metrics2")
    text = (
        f"blocks into an empty data directory; `find {folder} -name '*.yml'` shows the configuration and the rules, "
        "those with secrets below `secrets`, for you to copy."
    )
    stop, start, owner = "systemctl stop prometheus", "systemctl start prometheus", "prometheus:"
    if _container(one):
        stop, start = f"docker stop {_quoted(one)}", f"docker start {_quoted(one)}"
        data, owner = "DATA-DIRECTORY", "65534:65534"
        text += f" `docker inspect {_quoted(one)}` tells where its data directory is; its image's account is 65534."
    return text + _console(
        stop, f"mv {data} {data}-before", f"cp -a {folder}/tsdb {data}", f"chown -R {owner} {data}", start
    )


def _docker_volumes(_one: Component, folder: str) -> str:
    return (
        "each volume, while no container uses it; `volumes.json` has their drivers, options and containers. "
        "Then the projects' files, which lie at their live paths, and each project is started in its directory."
        + _console(
            f"ls {folder}/volumes {folder}/projects",
            "docker volume create VOLUME",
            f"cp -a {folder}/volumes/VOLUME/. /var/lib/docker/volumes/VOLUME/",
            f"cp -a {folder}/copies/volumes.VOLUME/. /var/lib/docker/volumes/VOLUME/      # where there is one",
            f"cp -a {folder}/projects/PROJECT/. /",
            "docker compose up -d",
        )
    )


def _langsmith(_one: Component, folder: str) -> str:
    return (
        f"`{folder}/*.json` are arrays with one item a line, to read and to search; prompts and datasets can be put "
        "into LangSmith's web interface by hand. Only Restaura writes all of it back."
    )


BY_HAND: dict[str, Callable[[Component, str], str]] = {
    "postgres": _postgres,
    "redis": _redis,
    "mongodb": _mongodb,
    "qdrant": _qdrant,
    "grafana": _grafana,
    "prometheus": _prometheus,
    "docker_volumes": _docker_volumes,
    "langsmith": _langsmith,
}
