// BullMQ on Redis, a queue for each site: node bullmq.js accept|deliver --redis=PORT --port=PORT --sink=PORT --sites=N --keep=first|newest [--map]
//
//   --keep=first   the payload is the job's data and the key its id, a common way to avoid duplicates: while a job with
//                  this id waits or runs, a newer one is not added, so the OLD payload is delivered and the newer one is lost
//   --keep=newest  the newest payload of each key is in a hash and a job only names the key; jobs are deduplicated with keepLastIfActive
'use strict';
const { Queue, Worker } = require('bullmq');
const { Redis } = require('ioredis');
const { options, ROLE, SITES, IN_FLIGHT, LOCALES, localeOf, accept, delivering, post } = require('./common');

const connection = { host: '127.0.0.1', port: Number(options.redis), maxRetriesPerRequest: null };
const JOB = { removeOnComplete: true, attempts: 12, backoff: { type: 'exponential', delay: 1000 } };
const newest = options.keep === 'newest';
const redis = new Redis(connection);
const hashOf = locale => `newest:${locale}`;

async function acceptAll() {
  const queues = SITES.map(site => [site, new Queue(`site-${site}`, { connection, defaultJobOptions: JOB })]);
  await accept(async products => {
    if (newest) {
      // First the payload, then the job: a job must find at least the payload it was added for.
      for (const locale of LOCALES) await redis.hset(hashOf(locale), ...products.flatMap(({ key, payloads }) => [key, payloads[locale]]));
    }
    const job = site => ({ key, payloads }) => newest
      ? { name: 'product', data: { key }, opts: { deduplication: { id: key, keepLastIfActive: true } } }
      : { name: 'product', data: { payload: payloads[localeOf(site)] }, opts: { jobId: key } };
    await Promise.all(queues.map(([site, queue]) => queue.addBulk(products.map(job(site)))));
  });
}

async function deliverAll() {
  for (const site of SITES) {
    const deliver = async ({ data }) => post(site, newest ? await redis.hget(hashOf(localeOf(site)), data.key) : data.payload);
    const worker = new Worker(`site-${site}`, deliver, { connection, concurrency: IN_FLIGHT });
    worker.on('error', error => console.error(String(error)));
    worker.on('failed', (job, error) => console.error('failed', job?.id, String(error)));
    await worker.waitUntilReady();
  }
  delivering();
}

if (ROLE === 'accept') acceptAll(); else deliverAll();
