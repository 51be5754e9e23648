// An outbox in PostgreSQL: node postgres.js create|accept|deliver --postgres=PORT --port=PORT --sink=PORT --sites=N [--split] [--map]
//
// A row for each site and key, replaced by INSERT … ON CONFLICT DO UPDATE if the new version is higher; a worker for each site takes
// rows with FOR UPDATE SKIP LOCKED, posts them and deletes them in the same transaction. This coalesces, and converges.
//   --split  the payload is in a table of its own, once for all sites of a locale; a row of the outbox only says what is owed
'use strict';
const { Pool } = require('pg');
const { options, ROLE, SITES, IN_FLIGHT, LOCALES, localeOf, accept, delivering, post } = require('./common');

const ROWS = 64;
const database = new Pool({
  host: '127.0.0.1', port: Number(options.postgres), user: 'postgres', database: 'postgres',
  max: ROLE === 'deliver' ? SITES.length + 1 : 8,
});
const numberOf = locale => LOCALES.indexOf(locale);

async function create() {
  // Every row is updated and deleted all the time: room in its page, and a vacuum that comes often.
  const busy = 'fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000';
  await database.query(`
    CREATE TABLE newest (locale smallint, key text, version bigint NOT NULL, payload text NOT NULL, PRIMARY KEY (locale, key));
    CREATE TABLE outbox (site smallint, key text, version bigint NOT NULL, payload text, since timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (site, key)) WITH (${busy})`);
  await database.end();
}

const PUT_NEWEST = `
  INSERT INTO newest (locale, key, version, payload)
  SELECT $1, key, version, payload FROM unnest($2::text[], $3::bigint[], $4::text[]) AS new (key, version, payload)
  ON CONFLICT (locale, key) DO UPDATE SET version = excluded.version, payload = excluded.payload WHERE newest.version < excluded.version`;
const PUT_OWED = `
  INSERT INTO outbox (site, key, version)
  SELECT site, key, version FROM unnest($1::int[]) AS site, unnest($2::text[], $3::bigint[]) AS new (key, version) ORDER BY site, key
  ON CONFLICT (site, key) DO UPDATE SET version = excluded.version WHERE outbox.version < excluded.version`;
const PUT_PAYLOADS = `
  INSERT INTO outbox (site, key, version, payload)
  SELECT site, key, version, payload FROM unnest($1::int[]) AS site, unnest($2::text[], $3::bigint[], $4::text[]) AS new (key, version, payload)
  ORDER BY site, key
  ON CONFLICT (site, key) DO UPDATE SET version = excluded.version, payload = excluded.payload WHERE outbox.version < excluded.version`;

/** One transaction for a batch. Rows are locked in the order of their keys, so that batches cannot wait for each other in a circle. */
async function take(products) {
  products.sort((a, b) => (a.key < b.key ? -1 : 1));
  const keys = products.map(({ key }) => key);
  const versions = products.map(({ version }) => version);
  const client = await database.connect();
  try {
    await client.query('BEGIN');
    for (const locale of LOCALES) {
      const payloads = products.map(product => product.payloads[locale]);
      if (options.split) await client.query({ name: 'newest', text: PUT_NEWEST, values: [numberOf(locale), keys, versions, payloads] });
      else {
        const sites = SITES.filter(site => localeOf(site) === locale);
        await client.query({ name: 'payloads', text: PUT_PAYLOADS, values: [sites, keys, versions, payloads] });
      }
    }
    if (options.split) await client.query({ name: 'owed', text: PUT_OWED, values: [SITES, keys, versions] });
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

async function deliverTo(site) {
  const client = await database.connect();
  // A new table has no statistics, and without these the planner sorts the whole backlog for each 64 rows.
  await client.query('SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off');
  const columns = options.split ? 'key' : 'key, payload';
  const next = { name: 'next', text: `SELECT ${columns} FROM outbox WHERE site = ${site} ORDER BY key LIMIT ${ROWS} FOR UPDATE SKIP LOCKED` };
  const read = `SELECT key, payload FROM newest WHERE locale = ${numberOf(localeOf(site))} AND key = ANY($1::text[])`;
  const done = `DELETE FROM outbox WHERE site = ${site} AND key = ANY($1::text[])`;
  for (;;) {
    try {
      await client.query('BEGIN');
      let { rows } = await client.query(next);
      const keys = rows.map(({ key }) => key);
      // In a second step, not in a join: a join would read the payload as it was before the wait for the row's lock, and
      // the row that stands for the newer payload would be deleted.
      if (options.split && rows.length) ({ rows } = await client.query({ name: 'read', text: read, values: [keys] }));
      const queue = rows.values();
      const worker = async () => { for (const { payload } of queue) await post(site, payload); };
      // All of them have to end before the transaction does: one that still posts after a rollback would be overtaken.
      const ended = await Promise.allSettled(Array.from({ length: IN_FLIGHT }, worker));
      const failed = ended.find(({ status }) => status === 'rejected');
      if (failed) throw failed.reason;
      if (keys.length) await client.query({ name: 'done', text: done, values: [keys] });
      await client.query('COMMIT');
      if (!keys.length) await new Promise(wake => setTimeout(wake, 20));
    } catch (error) {
      console.error(String(error));
      await client.query('ROLLBACK').catch(() => {});
      await new Promise(wake => setTimeout(wake, 1000));
    }
  }
}

if (ROLE === 'create') create();
else if (ROLE === 'accept') accept(take);
else { SITES.forEach(deliverTo); delivering(); }
