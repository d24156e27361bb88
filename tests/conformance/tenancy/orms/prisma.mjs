// Prisma's client on its driver adapter: `node prisma.mjs URL TENANT`. Client `good` does what is
// scoped to the tenant, each other one a single thing that is not; names go out one a line.
import { createRequire } from "node:module";
const require = createRequire(process.env.MODULES + "/");
const { PrismaClient } = require("@prisma/client");
const { PrismaPg } = require("@prisma/adapter-pg");

const [, , url, tenantId] = process.argv;

const good = async (db) => {
  const booking = await db.booking.findFirst({ where: { tenantId }, orderBy: { id: "asc" } });
  await db.booking.findUnique({ where: { id: booking.id } });
  await db.booking.findUnique({ where: { id: booking.id }, include: { notes: true, customer: true } });
  await db.booking.findMany({ where: { tenantId, status: "open" }, orderBy: { startsAt: "desc" }, take: 3 });
  await db.booking.findMany({ where: { tenantId }, include: { notes: true }, skip: 1, take: 2 });
  await db.booking.findMany({ where: { tenantId, OR: [{ total: { gt: 2 } }, { note: { contains: "a" } }] } });
  await db.booking.findMany({ where: { tenantId, customer: { tenantId, score: { gt: 1 } } } });
  await db.booking.findMany({ where: { tenantId, notes: { some: { pinned: true } } }, select: { id: true } });
  await db.booking.findMany({ where: { tenantId, notes: { none: { pinned: true } } }, distinct: ["status"] });
  await db.bookingNote.findMany({ where: { booking: { tenantId } } });
  await db.customer.findMany({ where: { tenantId }, include: { _count: { select: { bookings: true } } } });
  await db.customer.findMany({ where: { tenantId }, cursor: { id: (await db.customer.findFirst({ where: { tenantId } })).id }, take: 2 });
  await db.tenant.findUnique({ where: { slug: "slug-k-0" }, include: { bookings: true } });
  await db.template.findMany({ where: { OR: [{ tenantId }, { tenantId: null }] } });
  await db.booking.count({ where: { tenantId } });
  await db.booking.aggregate({ where: { tenantId }, _sum: { total: true }, _max: { number: true } });
  await db.booking.groupBy({ by: ["status"], where: { tenantId }, _count: true });
  await db.booking.updateMany({ where: { tenantId, status: "void" }, data: { note: "x" } });
  await db.booking.update({ where: { id: booking.id, tenantId }, data: { note: "y" } });
  await db.customer.create({ data: { id: "p-1", tenantId, email: "p1", name: "P" } });
  await db.customer.createMany({ data: [{ id: "p-2", tenantId, email: "p2", name: "P" }, { id: "p-3", tenantId, email: "p3", name: "P" }] });
  await db.customer.upsert({ where: { tenantId_email: { tenantId, email: "p1" } }, create: { id: "p-4", tenantId, email: "p1", name: "P" }, update: { name: "Q" } });
  await db.booking.update({ where: { id: booking.id }, data: { notes: { create: { id: "p-5", body: "b", pinned: false } } } });
  await db.$transaction([db.booking.count({ where: { tenantId } }), db.customer.findMany({ where: { tenantId } })]);
  await db.$queryRaw`SELECT number FROM "Booking" WHERE "tenantId" = ${tenantId} ORDER BY number`;
  await db.bookingNote.deleteMany({ where: { id: "p-5", booking: { tenantId } } });
  await db.customer.deleteMany({ where: { tenantId, id: { startsWith: "p-" } } });
};

const leaks = {
  "all rows": (db) => db.booking.findMany(),
  "another condition": (db) => db.booking.findMany({ where: { status: "open" } }),
  "first of all": (db) => db.booking.findFirst({ orderBy: { startsAt: "desc" } }),
  "email alone": (db) => db.customer.findFirst({ where: { email: "email0" } }),
  "or": (db) => db.booking.findMany({ where: { OR: [{ tenantId }, { status: "open" }] } }),
  "not": (db) => db.booking.findMany({ where: { NOT: { tenantId } } }),
  "undefined filter": (db) => db.booking.findMany({ where: { tenantId: undefined, total: { gt: 1 } } }),
  "count": (db) => db.booking.count(),
  "aggregate": (db) => db.booking.aggregate({ _avg: { total: true } }),
  "group": (db) => db.booking.groupBy({ by: ["status"], _count: true }),
  "update many": (db) => db.booking.updateMany({ where: { status: "void" }, data: { note: "z" } }),
  "delete many": (db) => db.bookingNote.deleteMany({ where: { body: "never" } }),
  "by relation": (db) => db.bookingNote.findMany({ where: { booking: { status: "open" } } }),
  "raw": (db) => db.$queryRaw`SELECT number FROM "Booking" WHERE total > ${1}`,
  "two tenants": (db) => db.booking.findMany({ where: { tenantId: { in: [tenantId, "b-20"] } } }),
};

const as = async (name, act) => {
  const adapter = new PrismaPg({ connectionString: url, application_name: name, max: 1 });
  const db = new PrismaClient({ adapter });
  try {
    await act(db);
    console.log(name);
  } finally {
    await db.$disconnect();
  }
};

await as("prisma good", good);
for (const [name, act] of Object.entries(leaks)) await as(`prisma ${name}`, act);
