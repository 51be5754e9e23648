// RabbitMQ: node rabbitmq.js accept|deliver --amqp=PORT --port=PORT --sink=PORT --sites=N --queue=classic|quorum [--map]
//
// A fanout exchange for each locale, a durable queue for each site, persistent messages. A batch is answered when the broker has confirmed
// every message; a message is acknowledged when its site has taken it, and put back into the queue a second after a failure.
'use strict';
const amqp = require('amqplib');
const { options, ROLE, SITES, IN_FLIGHT, LOCALES, localeOf, accept, delivering, post } = require('./common');

const exchangeOf = locale => `products-${locale}`;
const queueOf = site => `site-${site}`;
const MESSAGE = { persistent: true, contentType: 'application/json' };

async function acceptAll(connection) {
  const channel = await connection.createConfirmChannel();
  for (const locale of LOCALES) await channel.assertExchange(exchangeOf(locale), 'fanout', { durable: true });
  for (const site of SITES) {
    await channel.assertQueue(queueOf(site), { durable: true, arguments: { 'x-queue-type': options.queue } });
    await channel.bindQueue(queueOf(site), exchangeOf(localeOf(site)), '');
  }
  const publish = (locale, payload) => new Promise((confirmed, refused) =>
    channel.publish(exchangeOf(locale), '', Buffer.from(payload), MESSAGE, error => (error ? refused(error) : confirmed())));
  await accept(products => Promise.all(products.flatMap(({ payloads }) => LOCALES.map(locale => publish(locale, payloads[locale])))));
}

async function deliverAll(connection) {
  for (const site of SITES) {
    const channel = await connection.createChannel();
    await channel.prefetch(IN_FLIGHT);
    await channel.consume(queueOf(site), async message => {
      try {
        await post(site, message.content);
        channel.ack(message);
      } catch (error) {
        console.error(String(error));
        setTimeout(() => channel.nack(message), 1000);
      }
    });
  }
  delivering();
}

amqp.connect(`amqp://guest:guest@127.0.0.1:${options.amqp}`).then(ROLE === 'accept' ? acceptAll : deliverAll);
