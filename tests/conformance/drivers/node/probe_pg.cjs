// node-postgres as a probe, with pg-copy-streams and pg-cursor.
"use strict";

const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");
const { Client } = require("pg");
const copyStreams = require("pg-copy-streams");
const Cursor = require("pg-cursor");
const probe = require("./probe.cjs");

async function connected(url, options, use) {
  const client = new Client({ connectionString: url, ...options });
  client.on("error", () => {});
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end().catch(() => {});
  }
}

async function attempt(client, ...query) {
  try {
    const result = await client.query(...query);
    const results = Array.isArray(result) ? result : [result];
    return results.map((one) => [one.command, one.rowCount, one.rows]);
  } catch (error) {
    return probe.failure(error);
  }
}

async function login(url) {
  const options = { application_name: "conformance", options: "-c work_mem=1MB",
    statement_timeout: 12345 };
  const seen = await connected(url, options, async (client) => {
    const own = (await client.query("SELECT pg_backend_pid() AS pid")).rows[0].pid;
    const told = [own === client.processID];
    for (const name of ["application_name", "work_mem", "statement_timeout"])
      told.push(await attempt(client, `SHOW ${name}`));
    return told;
  });
  for (const change of [{ password: "wrong" }, { user: "nobody" }, { database: "nowhere" }]) {
    const parts = new URL(url);
    const base = { host: parts.hostname, port: Number(parts.port), user: parts.username,
      password: parts.password, database: parts.pathname.slice(1), ...change };
    const client = new Client(base);
    client.on("error", () => {});
    seen.push(await client.connect()
      .then(() => "let in", (error) => probe.refusal(probe.failure(error))));
    await client.end().catch(() => {});
  }
  return seen;
}

const simple = (url) => connected(url, {}, async (client) => {
  const notices = [];
  client.on("notice", (told) => notices.push([told.severity, told.code, told.message, told.hint]));
  const seen = [];
  for (const text of [probe.VALUES, "", "SELECT 1; SELECT 2", probe.NOTICES, probe.TABLE,
    "SELECT 1; INSERT INTO item VALUES (1, 'a'); SELECT 'x'", "SET TIME ZONE 'Asia/Tokyo'",
    "SHOW TIME ZONE"])
    seen.push(await attempt(client, text));
  return [seen, notices];
});

const extended = (url) => connected(url, {}, async (client) => {
  const seen = [await attempt(client, probe.TABLE)];
  for (const values of [[1, "a"], [2, null], [3, "ü"], [3, "again"]])
    seen.push(await attempt(client, "INSERT INTO item VALUES ($1, $2)", values));
  seen.push(await attempt(client, { text: "SELECT $1::int + 1, $2::text", values: [41, "b"],
    rowMode: "array" }));
  seen.push(await attempt(client, { text: probe.VALUES + " WHERE $1", values: [true],
    binary: true }));
  seen.push(await attempt(client, "SELECT length($1)", ["x".repeat(70_000)]));
  return seen;
});

const prepared = (url) => connected(url, {}, async (client) => {
  const seen = [];
  for (let n = 0; n < 6; n++)
    seen.push(await attempt(client, { name: `twice ${n % 2}`, text: `SELECT ${n % 2} + $1::int`,
      values: [n] }));
  seen.push(await attempt(client,
    "SELECT name, statement FROM pg_prepared_statements ORDER BY name"));
  seen.push(await attempt(client, "DEALLOCATE ALL"));
  seen.push(await attempt(client, { name: "twice 0", text: "SELECT 0 + $1::int", values: [7] }));
  return seen;
});

const pipelining = (url) => connected(url, { pipeline: true }, async (client) => {
  const numbers = Array.from({ length: 200 }, (_, n) => n);
  const results = await Promise.all(numbers.map((n) => client.query("SELECT $1::int AS n", [n])));
  const seen = [results.map((result) => result.rows[0].n).join()];
  seen.push(await Promise.all([
    attempt(client, "SELECT $1::int", [1]),
    attempt(client, "SELECT 1 / $1::int", [0]),
    attempt(client, "SELECT $1::int", [3]),
    attempt(client, { name: "named", text: "SELECT $1::text", values: ["a"] }),
    attempt(client, { name: "named", text: "SELECT $1::text", values: ["b"] }),
  ]));
  return seen;
});

const copy = (url) => connected(url, {}, async (client) => {
  const seen = [await attempt(client, probe.TABLE)];
  const lines = Array.from({ length: 100_000 }, (_, n) => `${n}\tname ${n}\n`).join("");
  const into = async (text) => {
    try {
      await pipeline(Readable.from([Buffer.from(text)]),
        client.query(copyStreams.from("COPY item FROM STDIN")));
      return "copied";
    } catch (error) {
      return probe.failure(error);
    }
  };
  seen.push(await into(lines));
  const parts = [];
  const out = client.query(copyStreams.to("COPY (SELECT * FROM item ORDER BY id) TO STDOUT"));
  for await (const part of out) parts.push(part);
  seen.push(probe.digest(Buffer.concat(parts)));
  for (const text of ["x\tno number\n", "5\ttwice\n", "1\n"]) seen.push(await into(text));
  seen.push(await attempt(client, "SELECT count(*) FROM item"));
  return seen;
});

const cancel = (url) => connected(url, {}, async (client) => {
  const parts = new URL(url);
  const running = new (require("pg").Query)(probe.SLEEP);
  const ended = new Promise((resolve) => {
    running.on("error", (error) => resolve(probe.failure(error)));
    running.on("end", () => resolve("slept"));
  });
  client.query(running);
  await probe.pause(probe.CANCEL_AFTER);
  new Client({ host: parts.hostname, port: Number(parts.port) }).cancel(client, running);
  const seen = [await ended];
  seen.push(await attempt(client, "SELECT 'after'"));
  return seen;
});

const notify = (url) => connected(url, {}, (listener) => connected(url, {}, async (sender) => {
  const told = [];
  listener.on("notification", (note) =>
    told.push([note.channel, probe.digest(note.payload), note.processId === sender.processID]));
  await listener.query("LISTEN conformance_pg");
  for (const payload of ["one", "ü".repeat(3000)])
    await sender.query("SELECT pg_notify('conformance_pg', $1)", [payload]);
  for (let turn = 0; turn < 500 && told.length < 2; turn++) await probe.pause(20);
  return told;
}));

const cursors = (url) => connected(url, {}, async (client) => {
  const cursor = client.query(
    new Cursor("SELECT n FROM generate_series(1, $1::int) n", [1000]));
  const seen = [await cursor.read(3), (await cursor.read(500)).length, await cursor.read(1)];
  await cursor.close();
  for (const text of ["BEGIN", "DECLARE moving CURSOR FOR SELECT 7", "FETCH ALL FROM moving",
    "COMMIT", "FETCH 1 FROM moving"])
    seen.push(await attempt(client, text));
  return seen;
});

const mistakes = (url) => connected(url, {}, async (client) => {
  const seen = [await attempt(client, probe.TABLE)];
  for (const text of probe.MISTAKES)
    for (const step of [text, "BEGIN", text, "SELECT 1", "COMMIT"])
      seen.push(await attempt(client, step));
  seen.push(await attempt(client, "SELECT 1 / $1::int", [0]));
  seen.push(await attempt(client, "SELECT pg_terminate_backend(pg_backend_pid())"));
  return seen;
});

const large = (url) => connected(url, {}, async (client) => {
  const value = probe.BLOCK.repeat(probe.MEGABYTES);
  const up = await attempt(client, "SELECT md5($1)", [value]);
  const down = await client.query(`SELECT ${probe.BLOCK_SQL} AS value`);
  return [up, probe.digest(down.rows[0].value)];
});

probe.serve({ login, simple, extended, "prepared reuse": prepared, pipelining, COPY: copy, cancel,
  "LISTEN/NOTIFY": notify, cursors, errors: mistakes, "100 MB values": large });
