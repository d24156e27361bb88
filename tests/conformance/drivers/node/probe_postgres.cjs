// postgres.js as a probe: pipelines and prepares by default, fetches types at its first query.
"use strict";

const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");
const postgres = require("postgres");
const probe = require("./probe.cjs");

async function connected(url, options, use) {
  const sql = postgres(url, { max: 1, onnotice: () => {}, ...options });
  try {
    return await use(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

async function attempt(query) {
  try {
    const result = await query;
    const rows = Array.from(result, (row) => row);
    return [result.command, result.count, rows];
  } catch (error) {
    return probe.failure(error);
  }
}

async function login(url) {
  const connection = { application_name: "conformance", search_path: "pg_catalog",
    statement_timeout: 12345 };
  const seen = await connected(url, { connection }, async (sql) => {
    const told = [];
    for (const name of Object.keys(connection)) told.push(await attempt(sql.unsafe(`SHOW ${name}`)));
    const { parameters } = sql;
    return [...told, parameters.server_version, parameters.TimeZone, parameters.application_name];
  });
  for (const options of [{ password: "wrong" }, { user: "nobody" }, { database: "nowhere" }])
    seen.push(await connected(url, options, async (sql) =>
      probe.refusal(await attempt(sql`SELECT 1`))));
  return seen;
}

async function simple(url) {
  const notices = [];
  const onnotice = (told) => notices.push([told.severity, told.code, told.message]);
  const seen = await connected(url, { onnotice }, async (sql) => {
    const told = [];
    for (const text of [probe.VALUES, "SELECT 1", probe.NOTICES, probe.TABLE,
      "SET TIME ZONE 'Asia/Tokyo'", "SHOW TIME ZONE"])
      told.push(await attempt(sql.unsafe(text).simple()));
    const several = await sql.unsafe("SELECT 1; SELECT 'b' AS two").simple();
    return [told, several.map((one) => [one.command, Array.from(one)]), sql.parameters.TimeZone];
  });
  return [seen, notices];
}

const extended = (url) => connected(url, { prepare: false }, async (sql) => {
  const seen = [await attempt(sql.unsafe(probe.TABLE))];
  for (const [id, name] of [[1, "a"], [2, null], [3, "ü"], [3, "again"]])
    seen.push(await attempt(sql`INSERT INTO item VALUES (${id}, ${name})`));
  seen.push(await attempt(sql`SELECT ${41}::int + 1 AS sum, ${"b"}::text AS text`));
  seen.push(await attempt(sql`SELECT ${sql.array([1, 2])}::int[] AS list, ${sql.json({ a: 1 })}::jsonb AS tree`));
  seen.push(await attempt(sql.unsafe(probe.VALUES, [])));
  seen.push(await attempt(sql`SELECT length(${"x".repeat(70_000)})`));
  const rows = Array.from({ length: 500 }, (_, n) => ({ id: n + 10, name: `name ${n}` }));
  seen.push(await attempt(sql`INSERT INTO item ${sql(rows)} RETURNING id`));
  return seen;
});

const prepared = (url) => connected(url, {}, async (sql) => {
  const seen = [];
  for (let n = 0; n < 6; n++) seen.push(await attempt(sql`SELECT ${n}::int * 2 AS twice`));
  seen.push(await attempt(sql.unsafe(
    "SELECT statement FROM pg_prepared_statements ORDER BY statement")));
  seen.push(await attempt(sql`SELECT ${9}::int * 2 AS twice`.describe()));
  await sql.unsafe("DEALLOCATE ALL").simple();
  seen.push(await attempt(sql`SELECT ${7}::int * 2 AS twice`));
  return seen;
});

const pipelining = (url) => connected(url, {}, async (sql) => {
  const numbers = Array.from({ length: 300 }, (_, n) => n);
  const results = await Promise.all(numbers.map((n) => sql`SELECT ${n}::int AS n`));
  const seen = [results.map((rows) => rows[0].n).join()];
  seen.push(await Promise.all([
    attempt(sql`SELECT ${1}::int AS n`), attempt(sql`SELECT 1 / ${0}::int`),
    attempt(sql`SELEC 1`), attempt(sql`SELECT ${3}::int AS n`),
  ]));
  seen.push(await sql.begin((own) => [own`SELECT 1 AS n`, own`SELECT 2 AS n`]));
  return seen;
});

const copy = (url) => connected(url, {}, async (sql) => {
  const seen = [await attempt(sql.unsafe(probe.TABLE))];
  const lines = Array.from({ length: 100_000 }, (_, n) => `${n}\tname ${n}\n`).join("");
  const into = async (text) => {
    try {
      await pipeline(Readable.from([Buffer.from(text)]), await sql`COPY item FROM STDIN`.writable());
      return "copied";
    } catch (error) {
      return probe.failure(error);
    }
  };
  seen.push(await into(lines));
  // Few rows: when more than a stream's buffer comes, postgres.js 3.4.9 may leave its own socket
  // paused at the end and hang, directly too.
  const parts = [];
  for await (const part of await sql`COPY (SELECT * FROM item WHERE id < 500) TO STDOUT`.readable())
    parts.push(part);
  seen.push(probe.digest(Buffer.concat(parts)));
  seen.push(await attempt(sql`SELECT count(*) FROM item`));
  return seen;
});

const cancel = (url) => connected(url, {}, async (sql) => {
  const running = sql.unsafe(probe.SLEEP);
  const ended = attempt(running);
  await probe.pause(probe.CANCEL_AFTER);
  running.cancel();
  return [await ended, await attempt(sql`SELECT 'after' AS word`)];
});

const notify = (url) => connected(url, { max: 2 }, async (sql) => {
  const told = [];
  const { unlisten } = await sql.listen("conformance postgres.js",
    (payload) => told.push(probe.digest(payload)));
  for (const payload of ["one", "ü".repeat(3000)])
    await sql.notify("conformance postgres.js", payload);
  for (let turn = 0; turn < 500 && told.length < 2; turn++) await probe.pause(20);
  await unlisten();
  return told;
});

const cursors = (url) => connected(url, {}, async (sql) => {
  const sizes = [];
  for await (const rows of sql`SELECT n FROM generate_series(1, 1000) n`.cursor(300))
    sizes.push([rows.length, rows[0].n]);
  await sql`SELECT n FROM generate_series(1, 1000) n`.cursor(10, (rows) => {
    sizes.push(rows.length);
    return sql.CLOSE;
  });
  let sum = 0;
  await sql`SELECT n FROM generate_series(1, 1000) n`.forEach((row) => { sum += row.n; });
  return [sizes, sum];
});

const mistakes = (url) => connected(url, {}, async (sql) => {
  const seen = [await attempt(sql.unsafe(probe.TABLE))];
  for (const text of probe.MISTAKES) {
    seen.push(await attempt(sql.unsafe(text)));
    seen.push(await attempt(sql.begin(async (own) => {
      const inside = await attempt(own.unsafe("SELECT 1"));
      await own.savepoint((nested) => nested.unsafe(text)).catch((error) => {
        seen.push([inside, probe.failure(error)]);
      });
      seen.push(await attempt(own.unsafe("SELECT 'lives' AS word")));
      return own.unsafe(text);
    })));
  }
  seen.push(await attempt(sql.unsafe("SELECT 'after' AS word")));
  return seen;
});

const large = (url) => connected(url, {}, async (sql) => {
  const value = probe.BLOCK.repeat(probe.MEGABYTES);
  const up = await attempt(sql`SELECT md5(${value})`);
  const down = await sql.unsafe(`SELECT ${probe.BLOCK_SQL} AS value`);
  return [up, probe.digest(down[0].value)];
});

probe.serve({ login, simple, extended, "prepared reuse": prepared, pipelining, COPY: copy, cancel,
  "LISTEN/NOTIFY": notify, cursors, errors: mistakes, "100 MB values": large });
