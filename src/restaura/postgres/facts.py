# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue queries of the fingerprint: each row is an object's identity `k` and its facts `v`.

They say exactly what pg_dump carries, in words that are equal on every server version from 15 on: extensions' own
members, system objects and what a restore computes anew are left out, as pg_dump leaves them out. Texts that servers
render anew (expressions, view definitions) stand under a key that begins with `sql`, and are compared as tokens.
`pg_attver` among a column's options is a stamp that servers (17.12, 15.20 and later) give it themselves.
"""

_USER = "(n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')"
_VIEWS = "('v', 'm')"


def _own(catalog: str, alias: str) -> str:
    """Return the condition that an object was made by a user: no system object, no member of an extension."""
    return (
        f"({alias}.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalog}'::regclass "
        f"AND x.objid = {alias}.oid AND x.deptype = 'e'))"
    )


def _owner(column: str) -> str:
    return f"pg_get_userbyid({column})"


def _identity(catalog: str, oid: str) -> str:
    return f"(SELECT i.type || ' ' || i.identity FROM pg_identify_object('{catalog}'::regclass, {oid}, 0) i)"


def _options(column: str) -> str:
    return f"(SELECT array_agg(o ORDER BY o) FROM unnest({column}) o)"


def _optional(alias: str, column: str) -> str:
    """Return a column that not every version has, as text."""
    return f"(to_jsonb({alias}) ->> '{column}')"


_RELATION = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
_IN = "JOIN pg_namespace n ON n.oid = c.relnamespace"

STRUCTURE: dict[str, str] = {
    "schemas": f"""
        SELECT n.nspname AS k, jsonb_build_object('owner', {_owner("n.nspowner")}) AS v
        FROM pg_namespace n WHERE {_USER} AND (n.nspname = 'public' OR {_own("pg_namespace", "n")})""",
    "extensions": """
        SELECT e.extname AS k, jsonb_build_object('schema', CASE WHEN e.extrelocatable THEN n.nspname END) AS v
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace""",
    "relations": f"""
        SELECT {_RELATION} AS k, jsonb_build_object(
            'kind', c.relkind, 'persistence', c.relpersistence, 'owner', {_owner("c.relowner")},
            'space', (SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace),
            'method', (SELECT amname FROM pg_am a WHERE a.oid = c.relam AND c.relkind IN ('r', 'm')),
            'options', {_options("c.reloptions")},
            'toast', (SELECT {_options("t.reloptions")} FROM pg_class t WHERE t.oid = c.reltoastrelid),
            'rls', c.relrowsecurity, 'rls_forced', c.relforcerowsecurity, 'replica', c.relreplident,
            'populated', c.relispopulated, 'of', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
            'sql_bound', pg_get_expr(c.relpartbound, c.oid),
            'sql_key', CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
            'parents', (SELECT jsonb_agg(i.inhparent::regclass::text ORDER BY i.inhseqno)
                        FROM pg_inherits i WHERE i.inhrelid = c.oid),
            'server', (SELECT jsonb_build_array(s.srvname, {_options("f.ftoptions")}) FROM pg_foreign_table f
                       JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
            'sql_view', CASE WHEN c.relkind IN {_VIEWS} THEN pg_get_viewdef(c.oid) END,
            'uses', CASE WHEN c.relkind IN {_VIEWS} THEN (
                SELECT jsonb_agg(DISTINCT i.type || ' ' || i.identity)
                FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid,
                pg_identify_object(d.refclassid, d.refobjid, 0) i
                WHERE r.ev_class = c.oid AND d.refobjid <> c.oid) END) AS v
        FROM pg_class c {_IN} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
        AND {_USER} AND {_own("pg_class", "c")}""",
    "columns": f"""
        SELECT {_RELATION} AS k, jsonb_agg(jsonb_build_object(
            'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
            'sql_default', pg_get_expr(d.adbin, d.adrelid), 'identity', a.attidentity, 'generated', a.attgenerated,
            'collation', CASE WHEN a.attcollation <> 0 THEN a.attcollation::regcollation::text END,
            'storage', a.attstorage, 'compression', a.attcompression,
            'statistics', CASE WHEN a.attstattarget >= 0 THEN a.attstattarget END,
            'options', (SELECT array_agg(o ORDER BY o) FROM unnest(a.attoptions) o WHERE o !~ '^pg_attver='),
            'fdw', {_options("a.attfdwoptions")}) ORDER BY a.attnum) AS v
        FROM pg_class c {_IN} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'
        AND {_USER} AND {_own("pg_class", "c")} GROUP BY 1""",
    "constraints": f"""
        SELECT coalesce(nullif(c.conrelid, 0)::regclass::text, nullif(c.contypid, 0)::regtype::text) || ' ' || c.conname
               AS k,
            jsonb_build_object('type', c.contype, 'sql', pg_get_constraintdef(c.oid), 'valid', c.convalidated) AS v
        FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace LEFT JOIN pg_class r ON r.oid = c.conrelid
        WHERE c.contype IN ('c', 'f', 'p', 'u', 'x') AND c.conparentid = 0 AND (c.conislocal OR c.contype <> 'c')
        AND coalesce(r.relpersistence, 'p') <> 't' AND {_USER} AND {_own("pg_constraint", "c")}
        AND (c.conrelid = 0 OR {_own("pg_class", "r")})""",
    "indexes": f"""
        SELECT {_RELATION} AS k, jsonb_build_object(
            'sql', pg_get_indexdef(c.oid), 'clustered', i.indisclustered, 'replica', i.indisreplident,
            'space', (SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace),
            'parent', (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = c.oid),
            'statistics', (SELECT jsonb_agg(CASE WHEN a.attstattarget >= 0 THEN a.attstattarget END ORDER BY a.attnum)
                           FROM pg_attribute a WHERE a.attrelid = c.oid)) AS v
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid {_IN} JOIN pg_class r ON r.oid = i.indrelid
        WHERE (i.indisvalid OR r.relkind = 'p') AND i.indisready AND c.relpersistence <> 't' AND {_USER}
        AND {_own("pg_class", "r")}""",
    "functions": f"""
        SELECT p.oid::regprocedure::text AS k, jsonb_build_object(
            'kind', p.prokind, 'language', l.lanname, 'owner', {_owner("p.proowner")}, 'volatile', p.provolatile,
            'strict', p.proisstrict, 'definer', p.prosecdef, 'leakproof', p.proleakproof, 'parallel', p.proparallel,
            'cost', p.procost, 'rows', p.prorows, 'config', p.proconfig, 'source', p.prosrc, 'library', p.probin,
            'result', pg_get_function_result(p.oid), 'sql_arguments', pg_get_function_arguments(p.oid),
            'sql_body', pg_get_function_sqlbody(p.oid), 'support', nullif(p.prosupport::oid, 0)::regproc::text,
            'aggregate', (SELECT to_jsonb(a) - '{{aggfnoid,aggtranstype,aggmtranstype,aggsortop}}'::text[] ||
                jsonb_build_object('state', format_type(a.aggtranstype, NULL), 'moving', a.aggmtranstype::regtype::text,
                'sort', a.aggsortop::regoperator::text) FROM pg_aggregate a WHERE a.aggfnoid = p.oid)) AS v
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
        WHERE {_USER} AND {_own("pg_proc", "p")}
        AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass AND x.objid = p.oid
                        AND x.deptype = 'i')""",
    "triggers": f"""
        SELECT t.tgrelid::regclass::text || ' ' || t.tgname AS k,
            jsonb_build_object('sql', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled) AS v
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid {_IN} WHERE NOT t.tgisinternal AND t.tgparentid = 0
        AND c.relpersistence <> 't' AND {_USER} AND {_own("pg_trigger", "t")} AND {_own("pg_class", "c")}""",
    "event triggers": f"""
        SELECT e.evtname AS k, jsonb_build_object('event', e.evtevent, 'owner', {_owner("e.evtowner")},
            'function', e.evtfoid::regprocedure::text, 'enabled', e.evtenabled, 'tags', e.evttags) AS v
        FROM pg_event_trigger e WHERE {_own("pg_event_trigger", "e")}""",
    "policies": f"""
        SELECT p.polrelid::regclass::text || ' ' || p.polname AS k, jsonb_build_object(
            'command', p.polcmd, 'permissive', p.polpermissive,
            'roles', (SELECT jsonb_agg(r ORDER BY r) FROM
                      (SELECT CASE o WHEN 0 THEN 'public' ELSE {_owner("o")} END AS r FROM unnest(p.polroles) o) s),
            'sql_using', pg_get_expr(p.polqual, p.polrelid), 'sql_check', pg_get_expr(p.polwithcheck, p.polrelid)) AS v
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid {_IN} WHERE {_USER} AND {_own("pg_policy", "p")}
        AND c.relpersistence <> 't'""",
    "rules": f"""
        SELECT r.ev_class::regclass::text || ' ' || r.rulename AS k,
            jsonb_build_object('sql', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled) AS v
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class {_IN}
        WHERE r.rulename <> '_RETURN' AND c.relpersistence <> 't' AND {_USER} AND {_own("pg_rewrite", "r")}
        AND {_own("pg_class", "c")}""",
    "types": f"""
        SELECT format_type(t.oid, NULL) AS k, jsonb_build_object(
            'type', t.typtype, 'owner', {_owner("t.typowner")}, 'not_null', t.typnotnull,
            'sql_default', coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault),
            'base', CASE WHEN t.typbasetype <> 0 THEN format_type(t.typbasetype, t.typtypmod) END,
            'collation', CASE WHEN t.typcollation <> 0 THEN t.typcollation::regcollation::text END,
            'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
            'range', (SELECT jsonb_build_array(format_type(r.rngsubtype, NULL), r.rngsubdiff::text,
                      r.rngcanonical::text, format_type(r.rngmultitypid, NULL))
                      FROM pg_range r WHERE r.rngtypid = t.oid),
            'io', CASE WHEN t.typtype = 'b' THEN jsonb_build_array(t.typinput::text, t.typoutput::text, t.typlen,
                  t.typbyval, t.typalign, t.typstorage, t.typdelim, t.typcategory, t.typispreferred) END) AS v
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
        WHERE (t.typrelid = 0 OR c.relkind = 'c') AND t.typtype <> 'm' AND {_USER} AND {_own("pg_type", "t")}
        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)""",
    "casts": f"""
        SELECT {_identity("pg_cast", "c.oid")} AS k, jsonb_build_object('function', c.castfunc::regprocedure::text,
            'context', c.castcontext, 'method', c.castmethod) AS v FROM pg_cast c WHERE {_own("pg_cast", "c")}""",
    "conversions": f"""
        SELECT {_identity("pg_conversion", "c.oid")} AS k, jsonb_build_object('owner', {_owner("c.conowner")},
            'for', pg_encoding_to_char(c.conforencoding), 'to', pg_encoding_to_char(c.contoencoding),
            'function', c.conproc::text, 'default', c.condefault) AS v
        FROM pg_conversion c WHERE {_own("pg_conversion", "c")}""",
    "collations": f"""
        SELECT {_identity("pg_collation", "c.oid")} AS k, jsonb_build_object('owner', {_owner("c.collowner")},
            'provider', c.collprovider, 'deterministic', c.collisdeterministic, 'collate', c.collcollate,
            'ctype', c.collctype, 'locale', coalesce({_optional("c", "colllocale")}, {_optional("c", "colliculocale")}),
            'rules', {_optional("c", "collicurules")}) AS v
        FROM pg_collation c WHERE {_own("pg_collation", "c")}""",
    "operators": f"""
        SELECT o.oid::regoperator::text AS k, jsonb_build_object('owner', {_owner("o.oprowner")},
            'function', o.oprcode::text, 'commutator', o.oprcom::regoperator::text,
            'negator', o.oprnegate::regoperator::text, 'restrict', o.oprrest::text, 'join', o.oprjoin::text,
            'merges', o.oprcanmerge, 'hashes', o.oprcanhash) AS v
        FROM pg_operator o WHERE {_own("pg_operator", "o")} AND o.oprcode <> 0""",
    "operator classes": f"""
        SELECT {_identity("pg_opclass", "o.oid")} AS k, jsonb_build_object('owner', {_owner("o.opcowner")},
            'type', format_type(o.opcintype, NULL), 'default', o.opcdefault,
            'family', {_identity("pg_opfamily", "o.opcfamily")},
            'key', CASE WHEN o.opckeytype <> 0 THEN format_type(o.opckeytype, NULL) END) AS v
        FROM pg_opclass o WHERE {_own("pg_opclass", "o")}""",
    "operator families": f"""
        SELECT {_identity("pg_opfamily", "f.oid")} AS k, jsonb_build_object('owner', {_owner("f.opfowner")},
            'operators', (SELECT jsonb_agg(
                jsonb_build_array(a.amopstrategy, a.amopopr::regoperator::text, a.amoppurpose)
                ORDER BY a.amopstrategy, a.amopopr::regoperator::text) FROM pg_amop a WHERE a.amopfamily = f.oid),
            'functions', (SELECT jsonb_agg(jsonb_build_array(a.amprocnum, a.amproc::regprocedure::text)
                ORDER BY a.amprocnum, a.amproc::regprocedure::text) FROM pg_amproc a WHERE a.amprocfamily = f.oid)) AS v
        FROM pg_opfamily f WHERE {_own("pg_opfamily", "f")}""",
    "access methods": f"""
        SELECT a.amname AS k, jsonb_build_object('handler', a.amhandler::text, 'type', a.amtype) AS v
        FROM pg_am a WHERE {_own("pg_am", "a")}""",
    "languages": f"""
        SELECT l.lanname AS k, jsonb_build_object('owner', {_owner("l.lanowner")}, 'trusted', l.lanpltrusted) AS v
        FROM pg_language l WHERE {_own("pg_language", "l")}""",
    "transforms": f"""
        SELECT {_identity("pg_transform", "t.oid")} AS k, jsonb_build_array(t.trffromsql::text, t.trftosql::text) AS v
        FROM pg_transform t WHERE {_own("pg_transform", "t")}""",
    "text search": f"""
        SELECT {_identity("pg_ts_config", "c.oid")} AS k, jsonb_build_object('owner', {_owner("c.cfgowner")},
            'parser', {_identity("pg_ts_parser", "c.cfgparser")},
            'map', (SELECT jsonb_agg(jsonb_build_array(m.maptokentype, m.mapdict::regdictionary::text)
                    ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = c.oid)) AS v
        FROM pg_ts_config c WHERE {_own("pg_ts_config", "c")}
        UNION ALL SELECT {_identity("pg_ts_dict", "d.oid")}, jsonb_build_object('owner', {_owner("d.dictowner")},
            'template', {_identity("pg_ts_template", "d.dicttemplate")}, 'options', d.dictinitoption)
        FROM pg_ts_dict d WHERE {_own("pg_ts_dict", "d")}
        UNION ALL SELECT {_identity("pg_ts_parser", "p.oid")}, jsonb_build_array(p.prsstart::text, p.prstoken::text,
            p.prsend::text, p.prsheadline::text, p.prslextype::text) FROM pg_ts_parser p
        WHERE {_own("pg_ts_parser", "p")}
        UNION ALL SELECT {_identity("pg_ts_template", "t.oid")}, jsonb_build_array(t.tmplinit::text, t.tmpllexize::text)
        FROM pg_ts_template t WHERE {_own("pg_ts_template", "t")}""",
    "statistics": f"""
        SELECT {_identity("pg_statistic_ext", "s.oid")} AS k, jsonb_build_object('owner', {_owner("s.stxowner")},
            'sql', pg_get_statisticsobjdef(s.oid), 'target', CASE WHEN s.stxstattarget >= 0 THEN s.stxstattarget END)
            AS v
        FROM pg_statistic_ext s WHERE {_own("pg_statistic_ext", "s")}""",
    "publications": f"""
        SELECT p.pubname AS k, jsonb_build_object('owner', {_owner("p.pubowner")}, 'all', p.puballtables,
            'does', jsonb_build_array(p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot),
            'tables', (SELECT jsonb_agg(jsonb_build_object('table', r.prrelid::regclass::text,
                'sql_where', pg_get_expr(r.prqual, r.prrelid),
                'columns', (SELECT array_agg(a.attname ORDER BY a.attname)
                FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)))
                ORDER BY r.prrelid::regclass::text) FROM pg_publication_rel r WHERE r.prpubid = p.oid),
            'schemas', (SELECT jsonb_agg(n.nspname ORDER BY n.nspname) FROM pg_publication_namespace s
                JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid)) AS v
        FROM pg_publication p WHERE {_own("pg_publication", "p")}""",
    "foreign data wrappers": f"""
        SELECT f.fdwname AS k, jsonb_build_object('owner', {_owner("f.fdwowner")},
            'handler', nullif(f.fdwhandler, 0)::regproc::text, 'validator', nullif(f.fdwvalidator, 0)::regproc::text,
            'options', {_options("f.fdwoptions")}) AS v
        FROM pg_foreign_data_wrapper f WHERE {_own("pg_foreign_data_wrapper", "f")}""",
    "comments": """
        SELECT i.type || ' ' || i.identity AS k, to_jsonb(d.description) AS v
        FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        WHERE d.objoid >= 16384 AND d.classoid <> 'pg_extension'::regclass
        AND coalesce(i.schema, '') !~ '^(pg_|information_schema$)'
        AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.classoid AND x.objid = d.objoid
                        AND x.deptype = 'e')""",
    "security labels": """
        SELECT i.type || ' ' || i.identity || ' ' || l.provider AS k, to_jsonb(l.label) AS v
        FROM pg_seclabel l, pg_identify_object(l.classoid, l.objoid, l.objsubid) i""",
}

# Options may hold passwords: hashed with the point's own salt.
SECRET_STRUCTURE: dict[str, str] = {
    "foreign servers": f"""
        SELECT s.srvname AS k, jsonb_build_object('owner', {_owner("s.srvowner")}, 'type', s.srvtype,
            'version', s.srvversion, 'wrapper', f.fdwname, 'options', {_options("s.srvoptions")},
            'mappings', (SELECT jsonb_agg(jsonb_build_array(
                CASE m.umuser WHEN 0 THEN 'public' ELSE {_owner("m.umuser")} END, {_options("m.umoptions")})
                ORDER BY CASE m.umuser WHEN 0 THEN 'public' ELSE {_owner("m.umuser")} END)
                FROM pg_user_mapping m WHERE m.umserver = s.oid)) AS v
        FROM pg_foreign_server s JOIN pg_foreign_data_wrapper f ON f.oid = s.srvfdw
        WHERE {_own("pg_foreign_server", "s")}""",
    "subscriptions": f"""
        SELECT s.subname AS k, jsonb_build_object('owner', {_owner("s.subowner")}, 'connection', s.subconninfo,
            'slot', s.subslotname, 'commit', s.subsynccommit, 'binary', s.subbinary, 'publications', s.subpublications)
            AS v
        FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()""",
}
