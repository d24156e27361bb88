-- psql's commands that use the protocol in ways of their own, and errors in the middle of them.
\set VERBOSITY verbose
\timing off
CREATE TABLE copied (id int PRIMARY KEY, word text);
\copy copied FROM PROGRAM 'seq 1 5000 | sed "s/.*/&\t&word/"'
SELECT count(*), sum(id), min(word), max(word) FROM copied;
\copy (SELECT * FROM copied WHERE id < 4 ORDER BY id) TO STDOUT
\copy copied TO 'copied.csv' CSV HEADER
TRUNCATE copied;
\copy copied FROM 'copied.csv' CSV HEADER
SELECT count(*), sum(id) FROM copied;
\copy copied FROM 'copied.csv' CSV HEADER
\! echo not a number > wrong.txt
\copy copied FROM 'wrong.txt'
\copy copied FROM 'no such file'
COPY copied FROM STDIN;
6001	from the script
6002	\N
\.
COPY (SELECT * FROM copied WHERE id > 6000 ORDER BY id) TO STDOUT;
COPY copied FROM STDIN; COPY copied TO STDOUT (FORMAT binary, FORCE_QUOTE *);
6003	then an error
\.
SELECT 1 AS first \; SELECT 2 AS second, 3 AS third \; SELECT 1/0 \; SELECT 4 AS never;
\errverbose
CREATE SEQUENCE ticks;
SELECT 6/(3 - nextval('ticks')) AS left \watch 0.01
\set FETCH_COUNT 7
SELECT id, word FROM copied ORDER BY id LIMIT 23;
SELECT 1/(12 - id) FROM copied ORDER BY id;
\unset FETCH_COUNT
SELECT id AS x, word AS y FROM copied ORDER BY id LIMIT 1 \gdesc
SELECT format('SELECT %s AS a', n) FROM generate_series(1, 3) n \gexec
SELECT id AS one, word AS two FROM copied ORDER BY id LIMIT 1 \gset got_
\echo :got_one :got_two
SELECT id % 2 AS r, id % 3 AS c, count(*) FROM copied GROUP BY 1, 2 \crosstabview r c count
PREPARE p (int) AS SELECT word FROM copied WHERE id = $1;
EXECUTE p (7);
DEALLOCATE p;
EXECUTE p (7);
\set AUTOCOMMIT off
INSERT INTO copied VALUES (7001, 'uncommitted');
ROLLBACK;
SELECT count(*) FROM copied WHERE id = 7001;
COMMIT;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO copied VALUES (7002, 'kept');
SELECT 1/0;
INSERT INTO copied VALUES (7003, 'kept, too');
COMMIT;
SELECT * FROM copied WHERE id > 7000 ORDER BY id;
\set ON_ERROR_ROLLBACK off
LISTEN here;
NOTIFY here, 'payload';
SELECT 'a' AS "after the notification";
DO $$ BEGIN RAISE NOTICE 'a notice %', 1; RAISE WARNING 'a warning'; END $$;
\lo_import copied.csv
\lo_export :LASTOID exported.csv
\lo_unlink :LASTOID
\! cmp copied.csv exported.csv && echo same
\encoding LATIN1
SELECT 'é' AS latin, length('é');
\encoding UTF8
SELECT repeat('wide', 500000) AS w \gset
SELECT length(:'w');
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
\sf f
\d copied
\dt
\df f
\du
\l
SET client_min_messages = debug1;
SELECT 1 AS "with debug messages";
RESET client_min_messages;
SET application_name = 'another name';
SHOW application_name;
\c - - - -
SHOW application_name;
SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid();
\password
SELECT pg_terminate_backend(pg_backend_pid());
SELECT 'reconnected' AS again;
DROP TABLE copied;
DROP SEQUENCE ticks;
DROP FUNCTION f;
