// The frame of a node driver's probe: the same laws and the same lines as probe.py.
"use strict";

const crypto = require("node:crypto");

const VALUES =
  "SELECT 1 AS one, 'ü€𝄞' AS text, NULL AS nothing, ARRAY[1, NULL, 3] AS list, " +
  "1.50::numeric AS exact, true AS yes, '\\x00ff'::bytea AS raw, " +
  "'{\"a\": [1]}'::jsonb AS tree, 'infinity'::float8 AS much, interval '1 day 2 s' AS span";
const NOTICES =
  "DO $$ BEGIN RAISE NOTICE 'told %', 1 USING DETAIL = 'more', HINT = 'less'; " +
  "RAISE WARNING 'warned' USING ERRCODE = '01P01'; END $$";
const TABLE =
  "CREATE TEMPORARY TABLE item (id int PRIMARY KEY, name text NOT NULL CHECK (name <> ''))";
const MISTAKES = [
  "SELECT 1/0",
  "SELEC 1",
  "SELECT * FROM nowhere",
  "SELECT 'a'::int",
  "INSERT INTO item VALUES (1, 'twice'), (1, 'twice')",
  "INSERT INTO item VALUES (2, NULL)",
  "INSERT INTO item VALUES (3, '')",
  "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'PG123', DETAIL = 'd', HINT = 'h'; END $$",
];
const SLEEP = "SELECT pg_sleep(20)";
const CANCEL_AFTER = 500; // milliseconds
const BLOCK = crypto.createHash("sha256").update("pgguard").digest("hex").repeat(15_625);
const BLOCK_SQL = "repeat(encode(sha256('pgguard'), 'hex'), 15625 * 100)";
const MEGABYTES = 100;

class Absent extends Error {}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function digest(value) {
  const data = Buffer.from(value);
  return `${data.length} bytes ${crypto.createHash("md5").update(data).digest("hex")}`;
}

/** Every field of an error that the server reported, else the client's own words. */
function failure(error) {
  const fields = ["severity", "code", "message", "detail", "hint", "position", "where", "schema",
    "schema_name", "table", "table_name", "column", "column_name", "constraint",
    "constraint_name", "line", "routine"];
  return fields.filter((name) => error[name] !== undefined)
    .map((name) => `${name}=${error[name]}`);
}

/** A failed login without the place in the server's source: the guard decides it itself. */
const refusal = (fields) => fields.filter((field) => !/^(line|routine)=/.test(field));

async function serve(probes) {
  const url = new URL(process.env.PROBE_URL);
  for (const feature of process.argv.slice(2)) {
    const line = { feature };
    try {
      if (!probes[feature]) throw new Absent("no such interface");
      line.outcome = await probes[feature](process.env.PROBE_URL);
    } catch (error) {
      if (error instanceof Absent) line.absent = error.message;
      else line.outcome = { raised: String(error.stack ?? error) };
    }
    const text = JSON.stringify(line, (_, value) =>
      typeof value === "bigint" || typeof value === "number" && !Number.isFinite(value)
        ? String(value) : value);
    const plain = text.replace(/pg_temp_\d+/g, "pg_temp_N").replaceAll(`:${url.port}`, ":N");
    await new Promise((resolve) => process.stdout.write(plain + "\n", resolve));
  }
  process.exit(0);
}

module.exports = { VALUES, NOTICES, TABLE, MISTAKES, SLEEP, CANCEL_AFTER, BLOCK, BLOCK_SQL,
  MEGABYTES, Absent, pause, digest, failure, refusal,
  serve };
