# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint `postgres-1`: what a server says of a database's structure and content, equal from version 15 on.

Covered is what the dump carries. A table's content is its number of rows and two order-free sums, of the upper and
lower 64 bits of each row's MD5, in the server's own text form under pinned settings. Not covered: the contents of
materialized views and of index structures (a restore computes them anew), versions of extensions, planner statistics.
At depth `catalog` rows are counted, not read.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from restaura.point import Depth
from restaura.postgres import cluster
from restaura.postgres.facts import SECRET_STRUCTURE, STRUCTURE
from restaura.postgres.server import quote_name
from restaura.postgres.session import Session

ALGORITHM = "postgres-1"

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\d+(?:\.\d+)?|\w+|\S""")
_BATCH = 200

TABLES = """
    SELECT c.oid::text AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind,
        e.extname AS extension, e.extcondition[array_position(e.extconfig, c.oid)] AS condition
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    LEFT JOIN pg_extension e ON e.oid = d.refobjid
    WHERE c.relkind IN ({kinds}) AND c.relpersistence <> 't' AND c.oid >= 16384
    AND (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
    ORDER BY n.nspname, c.relname"""

_PRIVILEGED = """
    SELECT i.type || ' ' || i.identity AS k, o.t, o.acl, o.owner,
        (SELECT p.initprivs FROM pg_init_privs p
         WHERE p.classoid = o.class AND p.objoid = o.oid AND p.objsubid = o.sub) AS initial
    FROM (
        SELECT 'pg_class'::regclass AS class, oid, 0 AS sub, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END AS t,
            relacl AS acl, relowner AS owner FROM pg_class WHERE relpersistence <> 't'
        UNION ALL SELECT 'pg_class'::regclass, c.oid, a.attnum, 'c', a.attacl, c.relowner
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            WHERE NOT a.attisdropped AND c.relpersistence <> 't'
        UNION ALL SELECT 'pg_proc'::regclass, oid, 0, 'f', proacl, proowner FROM pg_proc
        UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, 'n', nspacl, nspowner FROM pg_namespace
            WHERE nspname !~ '^pg_(toast|temp)'
        UNION ALL SELECT 'pg_type'::regclass, oid, 0, 'T', typacl, typowner FROM pg_type
        UNION ALL SELECT 'pg_language'::regclass, oid, 0, 'l', lanacl, lanowner FROM pg_language
        UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, 'F', fdwacl, fdwowner
            FROM pg_foreign_data_wrapper
        UNION ALL SELECT 'pg_foreign_server'::regclass, oid, 0, 'S', srvacl, srvowner FROM pg_foreign_server
        UNION ALL SELECT 'pg_largeobject'::regclass, oid, 0, 'L', lomacl, lomowner FROM pg_largeobject_metadata
    ) o, pg_identify_object(o.class, o.oid, o.sub) i WHERE o.acl IS NOT NULL"""

_DEFAULT_PRIVILEGES = """
    SELECT pg_get_userbyid(defaclrole) || ' ' || coalesce((SELECT nspname FROM pg_namespace n
        WHERE n.oid = defaclnamespace), '') || ' ' || defaclobjtype::text AS k,
        CASE WHEN defaclnamespace <> 0 THEN 'none' WHEN defaclobjtype = 'S' THEN 's' ELSE defaclobjtype::text END AS t,
        defaclacl AS acl, defaclrole AS owner, NULL::aclitem[] AS initial FROM pg_default_acl"""


@dataclass
class Parts:
    """Digests and counts that a fingerprint is made of."""

    parts: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, facts: Iterable[Any], salt: bytes = b"") -> None:
        """Digest the facts, whose order says nothing; nothing is kept for none."""
        lines = sorted(json.dumps(canonical(one), sort_keys=True) for one in facts)
        if lines:
            body = "\n".join(lines).encode(errors="surrogateescape")
            self.parts[name] = hmac.new(salt, body, hashlib.sha256).hexdigest() if salt else _sha256(body)

    def count(self, name: str, number: int) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number


@dataclass(frozen=True)
class Sequence:
    """A sequence and where it stands. `rank` is what the next value will not fall below, in its own direction."""

    key: str
    last: int
    called: bool
    step: int
    cycles: bool

    def to_json(self) -> list[Any]:
        """Return the sequence as JSON values."""
        return [self.key, self.last, self.called, self.step, self.cycles]

    def reached(self, frozen: "Sequence") -> bool:
        """Whether this (restored) sequence stands at or beyond the frozen one; one that cycles always does."""
        if self.cycles and frozen.cycles:
            return True
        here = self.last if self.called else self.last - self.step
        there = frozen.last if frozen.called else frozen.last - frozen.step
        return here >= there if frozen.step > 0 else here <= there


def canonical(value: Any, key: str = "") -> Any:
    """Return facts with every text under a `sql…` key as tokens, without qualifiers and brackets.

    Servers from 16 on leave out a column's relation where there is only one; what a view uses is a fact of its own.
    """
    if isinstance(value, dict):
        return {name: canonical(one, name) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [canonical(one, key) for one in value]
    return _tokens(value) if isinstance(value, str) and key.startswith("sql") else value


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if len(found) >= 2 and found[-1] == "." and (token[0].isalpha() or token[0] in '_"*'):
            found[-2:] = []
        found.append(token)
    return [one for one in found if one not in "()"]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def database(session: Session, name: str, depth: Depth, salt: bytes, frozen: Iterable[Sequence]) -> Parts:
    """Fingerprint the database of a session, as `name`; `frozen` are its sequences as they stood at the freeze."""
    found = Parts()
    label = f"database {name}"
    for kind, query in STRUCTURE.items():
        found.add(f"{label}: {kind}", session.rows(query))
    for kind, query in SECRET_STRUCTURE.items():
        if (
            kind == "subscriptions"
            and session.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") != "t"
        ):
            continue
        found.add(f"{label}: {kind}", session.rows(query), salt)
    for kind, query in (("privileges", _PRIVILEGED), ("default privileges", _DEFAULT_PRIVILEGES)):
        found.add(f"{label}: {kind}", ([k, v] for k, v in cluster.privileges(session, query).items()))
    _sequences(session, label, frozen, found)
    _large_objects(session, label, depth, found)
    for table in session.rows(TABLES.format(kinds="'r'")):
        if not table["extension"] or table["condition"] is not None:
            _table(session, label, table, depth, found)
    return found


def shared(roles: dict[str, Any], spaces: dict[str, Any], parameters: dict[str, Any], salt: bytes) -> Parts:
    """Fingerprint what belongs to the whole cluster and goes with a restore, as `cluster` has it."""
    found = Parts()
    for name, facts in roles.items():
        found.add(f"role {name}", [facts], salt)
    for name, facts in spaces.items():
        found.add(f"tablespace {name}", [{**facts, "location": None, "oid": None}])
    for name, changes in parameters.items():
        found.add(f"parameter {name}", [changes])
    return found


def properties(name: str, facts: dict[str, Any]) -> Parts:
    """Fingerprint a database's own properties, as `cluster.databases` has them."""
    found = Parts()
    found.add(f"database {name}: properties", [{**facts, "size": None, "name": name}])
    found.count("databases", 1)
    return found


def sequences(session: Session) -> list[Sequence]:
    """Return every sequence that the dump carries, and where it stands now (sequences know no snapshot)."""
    listed = session.rows(TABLES.format(kinds="'S'"))
    facts = {one["oid"]: one for one in session.rows("SELECT seqrelid::text AS oid, * FROM pg_sequence")}
    wanted = [one for one in listed if one["oid"] in facts and (not one["extension"] or one["condition"] is not None)]
    found = []
    for start in range(0, len(wanted), _BATCH):
        some = wanted[start : start + _BATCH]
        query = " UNION ALL ".join(
            f"SELECT {number} AS number, last_value AS last, is_called AS called FROM {_qualified(one)}"
            for number, one in enumerate(some)
        )
        for row in session.rows(query):
            one = some[row["number"]]
            step, cycles = facts[one["oid"]]["seqincrement"], facts[one["oid"]]["seqcycle"]
            found.append(Sequence(_qualified(one), row["last"], row["called"], step, cycles))
    return found


def _sequences(session: Session, label: str, frozen: Iterable[Sequence], found: Parts) -> None:
    """Digest definitions, and the frozen values of the sequences that stand at or beyond them."""
    found.add(
        f"{label}: sequences",
        session.rows("""
            SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS k, jsonb_build_object(
                'owner', pg_get_userbyid(c.relowner), 'type', format_type(s.seqtypid, NULL), 'start', s.seqstart,
                'step', s.seqincrement, 'max', s.seqmax, 'min', s.seqmin, 'cache', s.seqcache, 'cycle', s.seqcycle,
                'persistence', c.relpersistence,
                'of', (SELECT i.identity || ' ' || d.deptype::text FROM pg_depend d,
                       pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) i
                       WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                       AND d.refobjsubid > 0)) AS v
            FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_depend x WHERE
                x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')"""),
    )
    before = {one.key: one for one in frozen}
    now = {one.key: one for one in sequences(session)}
    shown = [before[key] if key in before and one.reached(before[key]) else one for key, one in now.items()]
    found.add(f"{label}: sequence values", (one.to_json() for one in shown))


def _large_objects(session: Session, label: str, depth: Depth, found: Parts) -> None:
    """Digest large objects: by page, holes and trailing zeros left out, because a restore writes them as zeros."""
    rows = session.rows("SELECT oid::text AS k, pg_get_userbyid(lomowner) AS v FROM pg_largeobject_metadata")
    if not rows:
        return
    found.count("large objects", len(rows))
    found.add(f"{label}: large objects", rows)
    if depth == "content":
        pages = """SELECT int8send(loid::bigint) || int4send(pageno) || rtrim(data, '\\x00'::bytea) AS body
                   FROM pg_largeobject WHERE rtrim(data, '\\x00'::bytea) <> ''::bytea"""
        sizes = """SELECT int8send(loid::bigint) || int8send(max(pageno::bigint * 2048 + length(data))) AS body
                   FROM pg_largeobject GROUP BY loid"""
        for kind, query in (("pages", pages), ("sizes", sizes)):
            found.add(f"{label}: large object {kind}", [_sums(session, f"SELECT md5(body) AS h FROM ({query}) b")])


def _table(session: Session, label: str, table: dict[str, Any], depth: Depth, found: Parts) -> None:
    source = f"FROM ONLY {_qualified(table)} AS restaura_row {table['condition'] or ''}"
    if depth == "content":
        sums = _sums(session, f"SELECT md5((restaura_row.*)::text) AS h {source}")
    else:
        sums = [int(session.value(f"SELECT count(*) {source}"))]
    found.add(f"{label}: table {_qualified(table)}", [sums])
    found.count("tables", 1)
    found.count("rows", int(sums[0]))


def _sums(session: Session, query: str) -> list[Any]:
    """Return the number of hashes that a query gives in column h, and the sums of their halves."""
    half = "coalesce(sum(('x' || {part})::bit(64)::bigint), 0)::text"
    row = session.rows(
        f"SELECT count(*) AS number, {half.format(part='left(h, 16)')} AS upper, "
        f"{half.format(part='right(h, 16)')} AS lower FROM ({query}) AS hashes"
    )[0]
    return [row["number"], row["upper"], row["lower"]]


def _qualified(table: dict[str, Any]) -> str:
    return f"{quote_name(table['schema'])}.{quote_name(table['name'])}"


def merged(several: Iterable[Parts]) -> Parts:
    """Return several parts as one."""
    whole = Parts()
    for one in several:
        whole.parts |= one.parts
        for name, number in one.counts.items():
            whole.count(name, number)
    return whole


def load_sequences(rows: Iterable[list[Any]]) -> Iterator[Sequence]:
    """Yield the sequences that `Sequence.to_json` wrote."""
    for row in rows:
        yield Sequence(*row)
