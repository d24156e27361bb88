-- What the states of states.py and hidden.py need, beside the schema of tests/support/features.

SELECT setseed(0.5);
CREATE TABLE seeded AS SELECT random()::text AS value FROM generate_series(1, 50);
CREATE TABLE pids (pid int);
CREATE SCHEMA other;
CREATE ROLE plain;
GRANT USAGE, CREATE ON SCHEMA public TO plain;
CREATE TABLE numbers (n int);
INSERT INTO numbers VALUES (1);

CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN 1; END $$;
CREATE FUNCTION sets(int) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN $1; END $$;
CREATE FUNCTION sets_by_text() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE 'SET lock_' || 'timeout = ''6s'''; RETURN 1; END $$;
CREATE FUNCTION calls() RETURNS int LANGUAGE sql AS 'SELECT sets()';
CREATE FUNCTION said_stable() RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT set_config('lock_timeout', '6s', false) $$;
CREATE FUNCTION marks() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.tenant', 'hidden', false); RETURN 1; END $$;
CREATE FUNCTION marks_by_text(name text) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.' || name, 'hidden', false); RETURN 1; END $$;
CREATE FUNCTION marks_locally() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.tenant', 'hidden', true); RETURN 1; END $$;
CREATE FUNCTION listens() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN LISTEN mine; RETURN 1; END $$;
CREATE FUNCTION makes_table() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN CREATE TEMP TABLE hidden (id int); RETURN 1; END $$;
CREATE FUNCTION prepares() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE 'PREPARE mine AS SELECT 42'; RETURN 1; END $$;
CREATE FUNCTION changes_role() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET ROLE plain; RETURN 1; END $$;
CREATE FUNCTION advances() RETURNS bigint LANGUAGE plpgsql AS
  $$ BEGIN RETURN nextval('items_id_seq'); END $$;
CREATE FUNCTION seeds() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM setseed(0.5); RETURN 1; END $$;
CREATE FUNCTION keeps_to_itself() RETURNS int LANGUAGE plpgsql SET lock_timeout = '6s' AS
  $$ BEGIN RETURN 1; END $$;
CREATE PROCEDURE sets_and_commits() LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; COMMIT; SET lock_timeout = '7s'; ROLLBACK; END $$;

CREATE VIEW viewed AS SELECT sets() AS n;
CREATE TABLE ruled (n int);
CREATE RULE ruled AS ON INSERT TO ruled DO ALSO SELECT sets();
CREATE TABLE defaulted (n int DEFAULT sets(), m int);
CREATE TABLE checked (n int CHECK (sets(n) > 0));
CREATE TABLE secured (n int);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
ALTER TABLE secured FORCE ROW LEVEL SECURITY;
CREATE POLICY secured ON secured USING (marks() > 0);
INSERT INTO secured VALUES (1);
GRANT ALL ON secured TO plain;
CREATE FUNCTION on_marked() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.tenant', 'trigger', false); RETURN NULL; END $$;
CREATE TABLE marked (n int);
CREATE TRIGGER marked AFTER INSERT OR UPDATE OR DELETE ON marked
  FOR EACH STATEMENT EXECUTE FUNCTION on_marked();
CREATE TABLE cascaded (n int PRIMARY KEY);
INSERT INTO cascaded SELECT generate_series(1, 99);
CREATE TABLE below (n int REFERENCES cascaded ON DELETE CASCADE);
INSERT INTO below SELECT generate_series(1, 99);
CREATE FUNCTION on_below() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN OLD; END $$;
CREATE TRIGGER below BEFORE DELETE ON below FOR EACH ROW EXECUTE FUNCTION on_below();
CREATE FUNCTION on_created() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; END $$;
CREATE EVENT TRIGGER created ON ddl_command_end WHEN TAG IN ('CREATE COLLATION')
  EXECUTE FUNCTION on_created();

CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION abs(pair) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN 1; END $$;
CREATE FUNCTION compares(int, int) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN true; END $$;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = compares);
CREATE DOMAIN guarded AS int CHECK (sets(VALUE) > 0);
CREATE FUNCTION of_pair(pair) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN 1; END $$;
CREATE CAST (pair AS int) WITH FUNCTION of_pair(pair);
CREATE FUNCTION of_number(numbers) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN 1; END $$;
CREATE FUNCTION adds(int, int) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN $1; END $$;
CREATE AGGREGATE summed(int) (SFUNC = adds, STYPE = int, INITCOND = '0');
