-- psql's commands over the extended protocol: parameters, named statements, pipelines.
\set VERBOSITY verbose
SELECT $1::int + $2::int AS sum \bind 1 2 \g
SELECT $1::int \bind 'not a number' \g
SELECT $1 || $2 AS words \parse joined
\bind_named joined 'to' 'gether' \g
\bind_named missing 1 \g
\close_prepared joined
\bind_named joined 'to' 'gether' \g
\startpipeline
SELECT $1 AS one \bind 1 \sendpipeline
SELECT 2 AS two \bind \sendpipeline
\flushrequest
\getresults 1
SELECT 1/0 \bind \sendpipeline
SELECT 'skipped' \bind \sendpipeline
\syncpipeline
SELECT 'after the sync' \bind \sendpipeline
\endpipeline
\startpipeline
BEGIN \bind \sendpipeline
CREATE TABLE piped (id int) \bind \sendpipeline
INSERT INTO piped SELECT generate_series(1, 1000) \bind \sendpipeline
SELECT count(*) FROM piped \bind \sendpipeline
\flush
COMMIT \bind \sendpipeline
\endpipeline
SELECT count(*) FROM piped;
DROP TABLE piped;
SELECT n FROM generate_series(1, 20) n \watch c=2 i=0.01 min_rows=1
