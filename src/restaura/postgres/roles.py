# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that bring roles, tablespaces, parameters and a database's properties into a known state."""

from typing import Any

from restaura.postgres.cluster import grants, parameter, set_config
from restaura.postgres.server import quote_name, quote_text
from restaura.postgres.session import Session

_ATTRIBUTES = {
    "super": "SUPERUSER",
    "inherit": "INHERIT",
    "createrole": "CREATEROLE",
    "createdb": "CREATEDB",
    "login": "LOGIN",
    "replication": "REPLICATION",
    "bypassrls": "BYPASSRLS",
}


def role(name: str, facts: dict[str, Any], present: dict[str, Any]) -> list[str]:
    """Return the statements that give a role (present as it is) these attributes, settings and words."""
    quoted = quote_name(name)
    words = [word if facts[key] else f"NO{word}" for key, word in _ATTRIBUTES.items()]
    words.append(f"CONNECTION LIMIT {facts['limit']}")
    if facts["until"] or present.get("until"):
        words.append(f"VALID UNTIL {quote_text(facts['until'] or 'infinity')}")
    if "password" in facts:
        words.append(f"PASSWORD {_text(facts['password'])}")
    statements = [f"ALTER ROLE {quoted} WITH {' '.join(words)}", f"ALTER ROLE {quoted} RESET ALL"]
    statements += set_config(f"ALTER ROLE {quoted}", facts["settings"])
    return [*statements, *_words("ROLE", name, facts)]


def memberships(name: str, wanted: list[dict[str, Any]], present: list[dict[str, Any]], major: int) -> list[str]:
    """Return the statements that turn a role's present memberships into the wanted ones."""
    member = quote_name(name)
    gone = {one["role"] for one in present} - {one["role"] for one in wanted}
    statements = [f"REVOKE {quote_name(one)} FROM {member}" for one in sorted(gone)]
    for one in wanted:
        if one in present:
            continue
        if major >= 16:
            flags = ", ".join(f"{key.upper()} {str(one[key]).upper()}" for key in ("admin", "inherit", "set"))
            statements.append(f"GRANT {quote_name(one['role'])} TO {member} WITH {flags}")
        else:
            option = " WITH ADMIN OPTION" if one["admin"] else ""
            statements.append(f"GRANT {quote_name(one['role'])} TO {member}{option}")
    return statements


def all_roles(wanted: dict[str, dict[str, Any]], present: dict[str, dict[str, Any]], major: int) -> list[str]:
    """Return the statements that bring roles that exist into the wanted state, only where they differ from it."""
    changed = [name for name, facts in wanted.items() if facts != present.get(name)]
    statements = [line for name in changed for line in role(name, wanted[name], present.get(name, {}))]
    for name in changed:
        before = present.get(name, {}).get("members") or []
        statements += memberships(name, wanted[name]["members"] or [], before, major)
    return statements


def tablespace(name: str, facts: dict[str, Any], *, in_place: bool) -> tuple[str, list[str]]:
    """Return the statement that makes a tablespace (`in_place`: in the data directory), and those that finish it."""
    quoted = quote_name(name)
    place = "" if in_place else facts["location"]
    made = f"CREATE TABLESPACE {quoted} OWNER {quote_name(facts['owner'])} LOCATION {quote_text(place)}"
    options = [one.partition("=") for one in facts["options"] or []]
    statements = [
        f"ALTER TABLESPACE {quoted} SET ({quote_name(key)} = {quote_text(value)})" for key, _, value in options
    ]
    return made, [*statements, *grants("TABLESPACE", quoted, facts["privileges"]), *_words("TABLESPACE", name, facts)]


def parameters(facts: dict[str, Any]) -> list[str]:
    """Return the statements that give privileges on server parameters."""
    return [line for name, changes in facts.items() for line in grants("PARAMETER", parameter(name), changes)]


def create_database(name: str, facts: dict[str, Any]) -> str:
    """Return the statement that makes an empty database of the same encoding, locale and tablespace."""
    words = [
        f"CREATE DATABASE {quote_name(name)} TEMPLATE template0 ENCODING {quote_text(facts['encoding'])}",
        f"LC_COLLATE {quote_text(facts['collate'])} LC_CTYPE {quote_text(facts['ctype'])}",
    ]
    providers = {"c": "libc", "i": "icu", "b": "builtin"}
    words.append(f"LOCALE_PROVIDER {providers[facts['provider']]}")
    if facts["locale"]:
        words.append(f"{providers[facts['provider']].upper()}_LOCALE {quote_text(facts['locale'])}")
    if facts["rules"]:
        words.append(f"ICU_RULES {quote_text(facts['rules'])}")
    words.append(f"TABLESPACE {quote_name(facts['space'])}")
    return " ".join(words)


def properties(name: str, facts: dict[str, Any]) -> list[str]:
    """Return the statements that give a database its privileges, settings and words, its owner set before."""
    quoted = quote_name(name)
    statements = [*grants("DATABASE", quoted, facts["privileges"]), *_words("DATABASE", name, facts)]
    statements += set_config(f"ALTER DATABASE {quoted}", facts["settings"])
    for role_name, settings in (facts["role_settings"] or {}).items():
        statements += set_config(f"ALTER ROLE {quote_name(role_name)} IN DATABASE {quoted}", settings)
    return statements


def admission(name: str, facts: dict[str, Any]) -> list[str]:
    """Return the statements that say who may connect to a database: what a restore puts on last."""
    quoted = quote_name(name)
    words = f"ALLOW_CONNECTIONS {facts['allow']} CONNECTION LIMIT {facts['limit']} IS_TEMPLATE {facts['template']}"
    return [f"ALTER DATABASE {quoted} WITH {words}"]


def execute_all(session: Session, statements: list[str]) -> None:
    """Run statements one by one, so that each one's failure is seen."""
    for statement in statements:
        session.execute(statement)


def _words(kind: str, name: str, facts: dict[str, Any]) -> list[str]:
    """Return the statements for comment and security labels."""
    target = f"{kind} {quote_name(name)}"
    labels = (facts.get("labels") or {}).items()
    statements = [f"SECURITY LABEL FOR {quote_name(key)} ON {target} IS {quote_text(value)}" for key, value in labels]
    return [f"COMMENT ON {target} IS {_text(facts['comment'])}", *statements]


def _text(value: str | None) -> str:
    return "NULL" if value is None else quote_text(value)


def quiet(admin: Session) -> None:
    """Keep what this session says (password hashes among it) out of the server's log."""
    admin.execute(
        "SELECT set_config('log_statement', 'none', false), set_config('log_min_error_statement', 'panic', false),"
        " set_config('log_min_duration_statement', '-1', false)"
    )
