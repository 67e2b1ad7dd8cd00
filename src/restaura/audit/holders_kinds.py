# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that hold data: how each kind is known by program, image, port, configuration and data directory."""

import re
from dataclasses import dataclass

from restaura.audit.model import HolderKind


@dataclass(frozen=True)
class Engine:
    """One kind of server.

    `programs` are the names it runs under, `images` a pattern for the last part of an image's name. `folders` are
    where it keeps data unless told otherwise, `inside` the same in containers. `configs` are its configuration files
    and `setting` finds the data directory in one, `option` in its command line (words parted by NUL). `markers` are
    sets of names that stand together at the top of a data directory. `packages` are Debian's.
    """

    kind: HolderKind
    programs: tuple[str, ...]
    images: str
    ports: tuple[int, ...]
    folders: tuple[str, ...]
    inside: tuple[str, ...]
    markers: tuple[frozenset[str], ...]
    configs: tuple[str, ...] = ()
    setting: str = r"(?!)"
    option: str = r"(?!)"
    packages: tuple[str, ...] = ()

    def marks(self, names: frozenset[str] | set[str]) -> bool:
        """Whether a directory with these names in it is a data directory of this kind."""
        return any(one <= names for one in self.markers)

    def is_image(self, image: str) -> bool:
        """Whether an image is a server of this kind (not an exporter of its metrics, nor a tool)."""
        return bool(re.fullmatch(self.images, image_name(image)))


def image_name(image: str) -> str:
    """Return the last part of an image's name, without registry, tag and digest."""
    return re.sub(r"[:@].*$", "", image.rsplit("/", 1)[-1]).lower()


def image_version(image: str) -> str:
    """Return the version that an image's tag tells, or nothing."""
    found = re.search(r":v?(\d[\w.-]*)(?:@.*)?$", image.rsplit("/", 1)[-1])
    return found[1] if found else ""


ENGINES: tuple[Engine, ...] = (
    Engine(
        "postgres",
        ("postgres", "postmaster"),
        r"(.*[-_.])?(postgres|postgresql|postgis|pgvector|timescaledb(-ha)?|pgvecto-rs|citus|edgedb)",
        (5432,),
        ("/var/lib/postgresql/*/*", "/var/lib/pgsql/data", "/var/lib/pgsql/*/data", "/usr/local/pgsql/data"),
        ("/var/lib/postgresql/data", "/var/lib/postgresql", "/bitnami/postgresql", "/home/postgres/pgdata"),
        (frozenset({"PG_VERSION", "global"}),),
        option=r"(?:^|\0)(?:-D|--pgdata)[\0=]?([^\0]+)",
    ),
    Engine(
        "mysql",
        ("mysqld", "mariadbd"),
        r"(.*[-_.])?(mysql|mysql-server|mariadb|mariadb-galera|percona|percona-server)",
        (3306,),
        ("/var/lib/mysql",),
        ("/var/lib/mysql", "/bitnami/mysql", "/bitnami/mariadb"),
        (frozenset({"ibdata1"}),),
        ("/etc/mysql/*.cnf", "/etc/mysql/*/*.cnf", "/etc/my.cnf", "/etc/my.cnf.d/*.cnf"),
        r"^\s*datadir\s*=\s*(\S+)",
        r"--datadir=([^\0]+)",
        ("mariadb-server", "mysql-server", "default-mysql-server"),
    ),
    Engine(
        "mongodb",
        ("mongod",),
        r"(.*[-_.])?(mongo|mongodb|mongodb-community-server|mongodb-enterprise-server|percona-server-mongodb)",
        (27017,),
        ("/var/lib/mongodb", "/var/lib/mongo", "/data/db"),
        ("/data/db", "/bitnami/mongodb"),
        (frozenset({"WiredTiger"}),),
        ("/etc/mongod.conf", "/etc/mongodb.conf"),
        r"^\s*db[pP]ath\s*[:=]\s*[\"']?([^\s\"']+)",
        r"--dbpath[\0=]([^\0]+)",
        ("mongodb-org-server", "mongodb-server"),
    ),
    Engine(
        "redis",
        ("redis-server", "valkey-server", "keydb-server"),
        r"(.*[-_.])?(redis|redis-stack|redis-stack-server|valkey|keydb)",
        (6379,),
        ("/var/lib/redis", "/var/lib/valkey", "/var/lib/keydb"),
        ("/data", "/bitnami/redis", "/bitnami/valkey", "/var/lib/redis"),
        (frozenset({"dump.rdb"}), frozenset({"appendonlydir"}), frozenset({"appendonly.aof"})),
        ("/etc/redis/*.conf", "/etc/redis.conf", "/etc/valkey/*.conf", "/etc/keydb/*.conf"),
        r"^\s*dir\s+\"?([^\s\"]+)",
        r"--dir\0([^\0]+)",
        ("redis-server", "valkey-server", "keydb-server"),
    ),
    Engine(
        "qdrant",
        ("qdrant",),
        r"(.*[-_.])?qdrant",
        (6333, 6334),
        ("/var/lib/qdrant", "/var/lib/qdrant/storage", "/qdrant/storage"),
        ("/qdrant/storage",),
        (frozenset({"raft_state.json"}),),
        ("/etc/qdrant/*.yaml",),
        r"^\s*storage_path:\s*[\"']?([^\s\"']+)",
        packages=("qdrant",),
    ),
    Engine(
        "prometheus",
        ("prometheus",),
        r"(.*[-_.])?prometheus",
        (9090,),
        ("/var/lib/prometheus/metrics2", "/var/lib/prometheus"),
        ("/prometheus", "/opt/bitnami/prometheus/data"),
        (frozenset({"chunks_head", "wal"}),),
        ("/etc/default/prometheus",),
        r"--storage\.tsdb\.path[= ]\"?([^\s\"]+)",
        r"--storage\.tsdb\.path[\0=]([^\0]+)",
        ("prometheus",),
    ),
    Engine(
        "grafana",
        ("grafana-server", "grafana"),
        r"(.*[-_.])?grafana(-oss|-enterprise)?",
        (3000,),
        ("/var/lib/grafana",),
        ("/var/lib/grafana", "/opt/bitnami/grafana/data"),
        (frozenset({"grafana.db"}),),
        ("/etc/grafana/grafana.ini", "/etc/default/grafana-server"),
        r"^\s*(?:data|DATA_DIR)\s*=\s*(\S+)",
        r"cfg:(?:default\.)?paths\.data=([^\0]+)",
        ("grafana", "grafana-enterprise"),
    ),
)
BY_KIND = {one.kind: one for one in ENGINES}
# Ports whose listener is surely such a server: other programs, too, like 3000 and 9090.
TELLING_PORTS = {port: one.kind for one in ENGINES for port in one.ports if port not in (3000, 9090)}


def marked(names: frozenset[str] | set[str]) -> Engine | None:
    """Return the kind of server whose data directory holds these names, or None."""
    return next((one for one in ENGINES if one.marks(names)), None)
