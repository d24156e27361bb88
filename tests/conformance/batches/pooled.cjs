// node-postgres: a pool of three that are all kept open; says "ready" when their work is done.
"use strict";

const { Pool } = require("pg");

async function work(client, number) {
  const { rows } = await client.query("SELECT $1::int AS n", [number]);
  if (rows[0].n !== number) throw new Error("a foreign reply");
  const kept = { name: `named ${number % 2}`, text: "SELECT $1::text AS n" };
  await client.query({ ...kept, values: [`${number}`] });
  await client.query("BEGIN");
  await client.query("INSERT INTO written (body) VALUES ($1) RETURNING id", [`${number}`]);
  await client.query("COMMIT");
}

async function main() {
  const pool = new Pool({ connectionString: process.env.POOLED_URL, max: 3 });
  const clients = await Promise.all([1, 2, 3].map(() => pool.connect()));
  for (let round = 0; round < 6; round++) {
    await Promise.all(clients.map((client, at) => work(client, round * 3 + at)));
  }
  clients.forEach((client) => client.release());
  console.log("ready");
  await new Promise((resolve) => process.stdin.on("end", resolve).resume());
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
