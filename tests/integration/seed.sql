-- SPDX-License-Identifier: GPL-3.0-or-later
-- Everything that the postgres source promises to bring back, under names that break what is not quoted.
\set ON_ERROR_STOP on
SET client_min_messages = error;
CREATE ROLE "app Owner" LOGIN PASSWORD 'pa''ss:w\ord' CONNECTION LIMIT 7 VALID UNTIL '2031-02-03 04:05:06+00';
CREATE ROLE "-rf $(touch /tmp/restaura-owned)" NOLOGIN NOINHERIT CREATEROLE;
CREATE ROLE readers;
CREATE ROLE "quo""ted";
GRANT readers TO "app Owner" WITH ADMIN OPTION;
GRANT "quo""ted" TO "-rf $(touch /tmp/restaura-owned)";
GRANT pg_read_all_data TO readers;
ALTER ROLE "app Owner" SET search_path TO "$user", "Sch ema", public;
ALTER ROLE "app Owner" SET work_mem = '7MB';
COMMENT ON ROLE readers IS 'may read; \! echo not a command';
GRANT SET ON PARAMETER log_duration TO readers;
CREATE TABLESPACE "fast disk" OWNER "app Owner" LOCATION :'tablespace' WITH (random_page_cost = 1.5);
GRANT CREATE ON TABLESPACE "fast disk" TO readers;

CREATE DATABASE "Shop ""of"" $(touch /tmp/restaura-owned) -d'x" OWNER "app Owner" TEMPLATE template0 ENCODING 'UTF8'
    LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' CONNECTION LIMIT 33;
COMMENT ON DATABASE "Shop ""of"" $(touch /tmp/restaura-owned) -d'x" IS E'line one\nline two';
CREATE DATABASE "-latin" TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TABLESPACE "fast disk";
CREATE DATABASE closed;
CREATE DATABASE bare;
ALTER DATABASE "-latin" SET default_transaction_read_only = on;
ALTER ROLE readers IN DATABASE "-latin" SET statement_timeout = '5s';
ALTER DATABASE "Shop ""of"" $(touch /tmp/restaura-owned) -d'x" SET search_path TO "Sch ema", public;
ALTER DATABASE "Shop ""of"" $(touch /tmp/restaura-owned) -d'x" SET timezone = 'America/Sao_Paulo';
REVOKE CONNECT, TEMPORARY ON DATABASE "Shop ""of"" $(touch /tmp/restaura-owned) -d'x" FROM PUBLIC;
GRANT CONNECT ON DATABASE "Shop ""of"" $(touch /tmp/restaura-owned) -d'x" TO readers WITH GRANT OPTION;

\connect "-latin"
SET default_transaction_read_only = off;
CREATE TABLE names (id int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, chr(233) || chr(225)), (2, NULL), (3, '');

\connect bare
DROP SCHEMA public;

\connect closed
CREATE TABLE archive AS SELECT g AS id, md5(g::text) AS hash FROM generate_series(1, 500) g;
\connect postgres
ALTER DATABASE closed ALLOW_CONNECTIONS false;

\connect "Shop ""of"" $(touch /tmp/restaura-owned) -d'x"
SET client_min_messages = error;
SET search_path = public;
CREATE EXTENSION hstore;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION dblink;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION citext WITH SCHEMA public;
CREATE SCHEMA "Sch ema" AUTHORIZATION "app Owner";
CREATE TYPE mood AS ENUM ('sad', 'so-so', 'h''appy');
ALTER TYPE mood ADD VALUE 'first' BEFORE 'sad';
CREATE TYPE pair AS (a int, "B b" text);
CREATE DOMAIN positive AS numeric(12, 3) DEFAULT 1 CONSTRAINT above_zero CHECK (VALUE > 0);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION "nordic x" (provider = icu, locale = 'da', deterministic = false);
CREATE FUNCTION twice(x int, y int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT $1 * $2 $$;
CREATE FUNCTION modern(x int) RETURNS int LANGUAGE sql IMMUTABLE RETURN x + 1;
CREATE PROCEDURE nothing(INOUT x int) LANGUAGE plpgsql SECURITY DEFINER SET work_mem = '5MB' AS $$ BEGIN x := x; END $$;
CREATE FUNCTION state(float8, int) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE AGGREGATE total(int) (sfunc = state, stype = float8, initcond = '0');
CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq, commutator = ===);
CREATE CAST (mood AS pair) WITH INOUT;
CREATE TEXT SEARCH CONFIGURATION english_x (COPY = english);
CREATE TEXT SEARCH DICTIONARY simple_x (TEMPLATE = simple, stopwords = english);
ALTER TEXT SEARCH CONFIGURATION english_x ALTER MAPPING FOR word WITH simple_x;
CREATE OPERATOR CLASS int_x FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=,
    OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);

CREATE TABLE "Sch ema"."Ord""ers $(id)
x" (
    id bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3) PRIMARY KEY,
    "drop me" text, customer citext NOT NULL, price positive, feeling mood, both_parts pair, attrs hstore,
    tags text[], doc jsonb, raw bytea, at timestamptz, lasts interval, ratio float8, small float4, money money,
    where_at point, during span, amount numeric(10, 2) GENERATED ALWAYS AS (12.5 * 2) STORED, "sorted" text COLLATE "nordic x",
    restaura_row int DEFAULT twice(3), net inet, x xml, bits bit varying(9), uid uuid, ts tsvector
);
ALTER TABLE "Sch ema"."Ord""ers $(id)
x" DROP COLUMN "drop me", ALTER COLUMN doc SET STORAGE EXTERNAL, ALTER COLUMN customer SET STATISTICS 321;
INSERT INTO "Sch ema"."Ord""ers $(id)
x" (customer, price, feeling, both_parts, attrs, tags, doc, raw, at, lasts, ratio, small, money, where_at, during,
    "sorted", net, x, bits, uid, ts)
SELECT 'Customer ' || g, g + 0.125, (ARRAY['sad', 'first', 'h''appy'])[1 + g % 3]::mood, ROW(g, E'a"\\b\n' || g)::pair,
    hstore('k' || g, E'v''\t"\\'), ARRAY['x', NULL, '{"', E'\\N'], jsonb_build_object('n', g, 'u', E'\u00e9\u2603'),
    decode(md5(g::text), 'hex'), '2024-03-31 01:30+00'::timestamptz + g * interval '1 hour', g * interval '1 mon 2 d 3 s',
    g / 7.0, g / 3.0, g * 1.11, point(g, -g / 9.0), span(g, g + 0.5), 'å' || g, '10.0.0.0/8', '<a b="c">d</a>', B'101',
    md5(g::text)::uuid, to_tsvector('english', 'the quick foxes ' || g)
FROM generate_series(1, 3000) g;
INSERT INTO "Sch ema"."Ord""ers $(id)
x" (customer, ratio, small, at) VALUES ('nan', 'NaN', '-Infinity', 'infinity'), (E'\\.', 1e-300, 3.4e38, '4713-01-01 BC');
CREATE INDEX "idx -x" ON "Sch ema"."Ord""ers $(id)
x" USING btree (lower(customer::text), price DESC NULLS LAST) INCLUDE (at) WHERE price > 10;
CREATE INDEX ON "Sch ema"."Ord""ers $(id)
x" USING gin (doc jsonb_path_ops);
CREATE STATISTICS st_x (ndistinct, dependencies) ON customer, price FROM "Sch ema"."Ord""ers $(id)
x";
ALTER TABLE "Sch ema"."Ord""ers $(id)
x" OWNER TO "app Owner";

CREATE TABLE lines (order_id bigint REFERENCES "Sch ema"."Ord""ers $(id)
x" (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, n int, EXCLUDE USING btree (n WITH =), t int);
INSERT INTO lines SELECT 5, g, g FROM generate_series(1, 50) g;
ALTER TABLE lines ADD CONSTRAINT later CHECK (t < 1000) NOT VALID;
CREATE TABLE measured (at date NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
CREATE TABLE "measured 2" PARTITION OF measured DEFAULT PARTITION BY HASH (v);
CREATE TABLE measured_2a PARTITION OF "measured 2" FOR VALUES WITH (MODULUS 1, REMAINDER 0) WITH (fillfactor = 70);
CREATE INDEX ON measured (at);
INSERT INTO measured SELECT '2024-05-01'::date + g, g FROM generate_series(1, 200) g;
CREATE TABLE parent (a int CHECK (a > 0));
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (3, 4);
CREATE UNLOGGED TABLE scratchpad (n int);
INSERT INTO scratchpad SELECT generate_series(1, 20);
CREATE TABLE t (t text, "T" text);
INSERT INTO t VALUES ('t', 'T'), ('same', 'same'), ('same', 'same');
CREATE TABLE nothing_in_it (a int) TABLESPACE "fast disk";
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE SEQUENCE counter START -100 INCREMENT -5 MINVALUE -1000000 CACHE 1;
SELECT nextval('counter'), nextval('counter');
CREATE SEQUENCE untouched START 9;
SELECT setval('untouched', 42, false);
CREATE VIEW totals WITH (security_barrier) AS SELECT o.customer, sum(o.price) AS total FROM "Sch ema"."Ord""ers $(id)
x" o GROUP BY o.customer;
CREATE VIEW one_table AS SELECT t."T", t.t FROM t WHERE t.t <> 'x';
CREATE MATERIALIZED VIEW full_one AS SELECT count(*) AS n FROM lines;
CREATE MATERIALIZED VIEW empty_one AS SELECT count(*) AS n FROM lines WITH NO DATA;
CREATE RULE quiet AS ON UPDATE TO scratchpad DO INSTEAD NOTHING;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.t := NEW.t; RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE OF t ON lines FOR EACH ROW WHEN (NEW.t > 0) EXECUTE FUNCTION stamp();
ALTER TABLE lines DISABLE TRIGGER stamp;
CREATE FUNCTION no_drop() RETURNS event_trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'the event trigger fired'; END $$;
CREATE EVENT TRIGGER "no drop" ON ddl_command_start WHEN TAG IN ('DROP TABLE', 'REFRESH MATERIALIZED VIEW')
    EXECUTE FUNCTION no_drop();
ALTER TABLE lines ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "mine only" ON lines AS RESTRICTIVE FOR SELECT TO readers, "app Owner" USING (n < 10 AND current_user <> 'x');
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.example', dbname 'it''s');
CREATE USER MAPPING FOR "app Owner" SERVER elsewhere OPTIONS (user 'bob', password 'fdw-s3cret');
CREATE FOREIGN TABLE far (a int OPTIONS (column_name 'A')) SERVER elsewhere OPTIONS (table_name 'far away');
CREATE PUBLICATION pub FOR TABLE parent (a), lines WHERE (n > 3);
CREATE SUBSCRIPTION sub CONNECTION 'host=pub.example dbname=x password=sub-s3cret' PUBLICATION p WITH (connect = false);
GRANT SELECT ON lines TO readers WITH GRANT OPTION;
GRANT SELECT (t), UPDATE (t) ON t TO readers;
GRANT ALL ON parent TO readers;
REVOKE ALL ON child FROM postgres;
GRANT EXECUTE ON FUNCTION twice TO readers;
REVOKE EXECUTE ON FUNCTION twice FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gen_salt(text) TO readers;
GRANT USAGE ON SCHEMA "Sch ema" TO PUBLIC;
GRANT CREATE ON SCHEMA public TO readers;
ALTER DEFAULT PRIVILEGES FOR ROLE "app Owner" IN SCHEMA "Sch ema" GRANT SELECT ON TABLES TO readers;
ALTER DEFAULT PRIVILEGES FOR ROLE "app Owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
COMMENT ON COLUMN t."T" IS 'capital';
COMMENT ON SCHEMA public IS 'changed';
COMMENT ON FUNCTION twice(int, int) IS E'\\restrict nothing';
SELECT lo_from_bytea(424242, decode(repeat('00ff10', 5000), 'hex'));
SELECT lo_from_bytea(424243, '\x00000000'), lo_put(424242, 100000, '\xabcdef');
ALTER LARGE OBJECT 424242 OWNER TO "app Owner";
GRANT SELECT ON LARGE OBJECT 424242 TO readers;
COMMENT ON LARGE OBJECT 424242 IS 'a picture';
