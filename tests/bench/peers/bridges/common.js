// What every bridge here shares: the options, the HTTP interface for NDJSON, the mapping, and a client that keeps its connections.
//
// A bridge has two processes, as teams run it: `accept` takes events and answers 202 when its queue has them, `deliver`
// takes from the queue and posts to the sites, 8 requests at a time to each.
'use strict';
const Fastify = require('fastify');
const { Pool } = require('undici');

/** `--name=value` and `--name` of the command line. */
const options = Object.fromEntries(process.argv.slice(3).map(word => {
  const [name, value] = word.replace(/^--/, '').split('=');
  return [name, value ?? true];
}));
const ROLE = process.argv[2];
const SITES = Array.from({ length: Number(options.sites) }, (_, i) => i + 1);
const IN_FLIGHT = 8;

/** Each site has one of these locales. Without a mapping all get the same, called `all`. */
const LOCALES = options.map ? ['de_DE', 'fr_FR'] : ['all'];
const localeOf = site => LOCALES[site % LOCALES.length];

// The mapping that Weir's plugin `pim-product` does with the settings of the comparison: four attributes, each with the value
// that fits the locale and the shop's scope best; a value without a locale or scope fits all, a more precise one wins.
const SCOPE = 'ecommerce';
const ATTRIBUTES = ['cord_length', 'description', 'name', 'seq'];

function bestValue(values, locale) {
  let best, bestRank = -1;
  for (const value of values ?? []) {
    if (value.data == null || (value.locale !== null && value.locale !== locale) || (value.scope !== null && value.scope !== SCOPE)) continue;
    const rank = (value.locale !== null ? 2 : 0) + (value.scope !== null ? 1 : 0);
    if (rank >= bestRank) { best = value.data; bestRank = rank; }
  }
  return best;
}

function mapped(product, locale) {
  const content = { enabled: product.enabled ?? true, family: product.family, categories: product.categories ?? [] };
  for (const attribute of ATTRIBUTES) {
    const value = bestValue(product.values[attribute], locale);
    if (value !== undefined) content[attribute] = value;
  }
  return JSON.stringify({ type: 'product', key: product.identifier, facets: { [`content.${locale}`]: content } });
}

/** An event as {key, version, payloads: JSON text by locale}. */
function read(line) {
  const event = JSON.parse(line);
  if (!options.map) return { key: event.key, version: event.version, payloads: { all: JSON.stringify(event) } };
  const { product } = event;
  const payloads = Object.fromEntries(LOCALES.map(locale => [locale, mapped(product, locale)]));
  return { key: product.identifier, version: Date.parse(product.updated), payloads };
}

/** The newest event of each key in a batch, in the order of their last events. */
function newestOf(text) {
  const newest = new Map();
  for (const line of text.split('\n')) {
    if (!line) continue;
    const product = read(line);
    newest.delete(product.key);
    newest.set(product.key, product);
  }
  return [...newest.values()];
}

/** Serves `POST /events`; `take` returns when its products are as durable as the queue makes them. */
function accept(take) {
  const app = Fastify({ logger: false, bodyLimit: 64 << 20 });
  app.addContentTypeParser('application/x-ndjson', { parseAs: 'string' }, (request, body, done) => done(null, body));
  app.post('/events', async (request, reply) => {
    await take(newestOf(request.body));
    reply.code(202).send();
  });
  app.get('/health', async () => 'ok');
  return app.listen({ port: Number(options.port), host: '127.0.0.1' });
}

/** Says that this process delivers now. */
const delivering = () => console.log('delivering');

const pools = new Map();

/** Posts a payload to a site; throws if the site does not take it. */
async function post(site, payload) {
  let pool = pools.get(site);
  if (!pool) pools.set(site, pool = new Pool(`http://127.0.0.1:${options.sink}`, { connections: IN_FLIGHT, pipelining: 1 }));
  const headers = { 'content-type': 'application/json' };
  const { statusCode, body } = await pool.request({ path: `/s${site}`, method: 'POST', headers, body: payload });
  await body.dump();
  if (statusCode >= 300) throw new Error(`site ${site} answered ${statusCode}`);
}

module.exports = { options, ROLE, SITES, IN_FLIGHT, LOCALES, localeOf, accept, delivering, post };
