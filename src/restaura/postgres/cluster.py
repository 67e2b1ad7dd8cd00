# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a server that belong to no one database's content: roles, tablespaces, privileges, database properties."""

import re
from typing import Any

from restaura.postgres.server import quote_name, quote_text
from restaura.postgres.session import Session, SqlError

INSUFFICIENT_PRIVILEGE = "42501"

_NONE = "NULL::aclitem[] AS initial"
_SETTINGS = "(SELECT array_agg(o ORDER BY o) FROM unnest(s.setconfig) o)"

# Each role's membership options, in PostgreSQL 16's words; before, the member's own INHERIT decided.
_MEMBERS = """
    (SELECT jsonb_agg(jsonb_build_object('role', g.rolname, 'admin', m.admin_option, 'inherit',
        coalesce((to_jsonb(m) ->> 'inherit_option')::bool, r.rolinherit), 'set',
        coalesce((to_jsonb(m) ->> 'set_option')::bool, true)) ORDER BY g.rolname)
     FROM (SELECT roleid, member, bool_or(admin_option) AS admin_option, {options} FROM pg_auth_members
           GROUP BY roleid, member) m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid)"""
_MEMBER_OPTIONS = {
    True: "bool_or(inherit_option) AS inherit_option, bool_or(set_option) AS set_option",
    False: "null::bool AS inherit_option, null::bool AS set_option",
}


def roles(session: Session) -> dict[str, dict[str, Any]]:
    """Return every role but the built-in ones by name; passwords as the server keeps them (hashes), where readable."""
    query = """
        SELECT r.rolname AS name, jsonb_build_object('super', r.rolsuper, 'inherit', r.rolinherit,
            'createrole', r.rolcreaterole, 'createdb', r.rolcreatedb, 'login', r.rolcanlogin,
            'replication', r.rolreplication, 'bypassrls', r.rolbypassrls, 'limit', r.rolconnlimit,
            'until', nullif(r.rolvaliduntil::text, 'infinity'), {password} 'members', {members},
            'settings', (SELECT {settings} FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0),
            'comment', shobj_description(r.oid, 'pg_authid'),
            'labels', (SELECT jsonb_object_agg(l.provider, l.label) FROM pg_shseclabel l
                       WHERE l.objoid = r.oid AND l.classoid = 'pg_authid'::regclass)) AS facts
        FROM {table} r WHERE r.rolname !~ '^pg_'"""
    members = _MEMBERS.format(options=_MEMBER_OPTIONS[session.major >= 16])
    query = query.replace("{members}", members).replace("{settings}", _SETTINGS)
    try:
        rows = session.rows(query.replace("{password}", "'password', r.rolpassword,").replace("{table}", "pg_authid"))
    except SqlError as error:
        if error.code != INSUFFICIENT_PRIVILEGE:
            raise
        rows = session.rows(query.replace("{password}", "").replace("{table}", "pg_roles"))
    return {one["name"]: one["facts"] for one in rows}


def tablespaces(session: Session) -> dict[str, dict[str, Any]]:
    """Return every tablespace that a user made, by name; `location` is where it is."""
    rows = session.rows("""
        SELECT t.spcname AS name, pg_get_userbyid(t.spcowner) AS owner, pg_tablespace_location(t.oid) AS location,
            (SELECT array_agg(o ORDER BY o) FROM unnest(t.spcoptions) o) AS options,
            shobj_description(t.oid, 'pg_tablespace') AS comment, t.oid::text AS oid
        FROM pg_tablespace t WHERE t.oid >= 16384""")
    granted = privileges(
        session,
        f"SELECT spcname AS k, 't' AS t, spcacl AS acl, spcowner AS owner, {_NONE} FROM pg_tablespace",
    )
    return {one["name"]: {**one, "privileges": granted.get(one["name"], {})} for one in rows}


def parameters(session: Session) -> dict[str, Any]:
    """Return the privileges on server parameters (GRANT SET ON PARAMETER, PostgreSQL 15)."""
    return privileges(
        session,
        f"SELECT parname AS k, 'p' AS t, paracl AS acl, 10::oid AS owner, {_NONE} FROM pg_parameter_acl",
    )


def databases(session: Session) -> dict[str, dict[str, Any]]:
    """Return the properties of every database but template0 by name, Restaura's own copies too."""
    rows = session.rows(f"""
        SELECT d.datname AS name, pg_get_userbyid(d.datdba) AS owner, pg_encoding_to_char(d.encoding) AS encoding,
            d.datlocprovider AS provider, d.datcollate AS collate, d.datctype AS ctype,
            coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,
            to_jsonb(d) ->> 'daticurules' AS rules, d.datistemplate AS template, d.datallowconn AS allow,
            d.datconnlimit AS "limit", (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace) AS space,
            shobj_description(d.oid, 'pg_database') AS comment,
            (SELECT {_SETTINGS} FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0) AS settings,
            (SELECT jsonb_object_agg(pg_get_userbyid(s.setrole), {_SETTINGS}) FROM pg_db_role_setting s
             WHERE s.setdatabase = d.oid AND s.setrole <> 0) AS role_settings,
            (SELECT jsonb_object_agg(l.provider, l.label) FROM pg_shseclabel l
             WHERE l.objoid = d.oid AND l.classoid = 'pg_database'::regclass) AS labels,
            CASE WHEN has_database_privilege(d.datname, 'CONNECT') THEN pg_database_size(d.oid) ELSE 0 END AS size
        FROM pg_database d WHERE d.datname <> 'template0' AND d.datconnlimit <> -2""")
    granted = privileges(
        session,
        f"SELECT datname AS k, 'd' AS t, datacl AS acl, datdba AS owner, {_NONE} FROM pg_database",
    )
    return {one["name"]: {**one, "privileges": granted.get(one["name"], {})} for one in rows}


def privileges(session: Session, objects: str) -> dict[str, dict[str, list[list[Any]]]]:
    """Return by key what was granted beyond, and revoked from, an object's first privileges; none when they are those.

    `objects` has the columns k, t (a type of acldefault), acl, owner and initial (what an extension or initdb gave it,
    or null). A grant is [grantee, privilege, with grant option]; PUBLIC is ''. All the
    privileges that an object can have are one, `ALL`: PostgreSQL 17 added MAINTAIN, and GRANT ALL means it there.
    """
    rows = session.rows(f"""
        WITH objects AS ({objects}), shown AS (
            SELECT k, t, owner, acl, coalesce(o.initial,
                   CASE WHEN t NOT IN ('c', 'p', 'none') THEN acldefault(t::"char", owner) END) AS base,
                   CASE WHEN t NOT IN ('c', 'p', 'none') THEN acldefault(t::"char", 10) END AS whole
            FROM objects o WHERE acl IS NOT NULL)
        SELECT k, t, (SELECT jsonb_agg(DISTINCT privilege_type) FROM aclexplode(whole) WHERE grantee = 10) AS whole,
            (SELECT jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), x.privilege_type, x.is_grantable))
             FROM (SELECT grantee, privilege_type, is_grantable FROM aclexplode(acl)
                   EXCEPT SELECT grantee, privilege_type, is_grantable FROM aclexplode(base)) x
             LEFT JOIN pg_roles r ON r.oid = x.grantee) AS granted,
            (SELECT jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), x.privilege_type, x.is_grantable))
             FROM (SELECT grantee, privilege_type, is_grantable FROM aclexplode(base)
                   EXCEPT SELECT grantee, privilege_type, is_grantable FROM aclexplode(acl)) x
             LEFT JOIN pg_roles r ON r.oid = x.grantee) AS revoked
        FROM shown""")
    found: dict[str, dict[str, list[list[Any]]]] = {}
    for one in rows:
        whole = set(one["whole"] or [])
        granted = _collapse(one["granted"] or [], whole)
        revoked = _collapse(one["revoked"] or [], whole)
        others = [row for row in revoked if row[1] != "MAINTAIN"]
        if granted or revoked:
            found[one["k"]] = {"granted": granted, "revoked": others or revoked}
    return found


def _collapse(rows: list[list[Any]], whole: set[str]) -> list[list[Any]]:
    """Return the grants sorted, with every privilege of an object written as ALL."""
    by_grantee: dict[tuple[str, bool], set[str]] = {}
    for grantee, privilege, grantable in rows:
        by_grantee.setdefault((grantee, grantable), set()).add(privilege)
    found: list[list[Any]] = []
    for (grantee, grantable), some in by_grantee.items():
        shown = {"ALL"} if whole and some >= whole else some
        found += [[grantee, privilege, grantable] for privilege in shown]
    return sorted(found)


def grants(kind: str, quoted: str, changes: dict[str, list[list[Any]]]) -> list[str]:
    """Return the statements that take an object (`DATABASE`, …; its name quoted) from its first privileges to these."""
    statements = []
    for grantee, privilege, grantable in changes.get("revoked", []):
        option = "GRANT OPTION FOR " if grantable and [grantee, privilege, False] in changes["granted"] else ""
        statements.append(f"REVOKE {option}{privilege} ON {kind} {quoted} FROM {_grantee(grantee)}")
    for grantee, privilege, grantable in changes.get("granted", []):
        option = " WITH GRANT OPTION" if grantable else ""
        statements.append(f"GRANT {privilege} ON {kind} {quoted} TO {_grantee(grantee)}{option}")
    return statements


def _grantee(name: str) -> str:
    return quote_name(name) if name else "PUBLIC"


def set_config(subject: str, settings: list[str] | None) -> list[str]:
    """Return the statements that give a database or role (`ALTER …`) its settings (`name=value`).

    A list of names is kept by the server as SQL (`"$user", public`) and given back item by item, as pg_dump does.
    """
    statements = []
    for one in settings or []:
        name, _, value = one.partition("=")
        items = _items(value) if name.lower() in _LISTS else [value]
        statements.append(f"{subject} SET {parameter(name)} TO {', '.join(map(quote_text, items or ['']))}")
    return statements


# The settings that are lists of names (GUC_LIST_QUOTE in guc_tables.c).
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}
_ITEM = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


def _items(value: str) -> list[str]:
    return [bare or quoted.replace('""', '"') for quoted, bare in _ITEM.findall(value)]


def parameter(name: str) -> str:
    """Return the name of a server parameter as SQL."""
    return ".".join(map(quote_name, name.split(".")))
