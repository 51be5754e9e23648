// Makes `vectors.json`: requests signed by the libraries of those who send them, so that Weir is not judged by its own
// idea of a signature. To run it again, in an empty folder with the versions that are written in `made_by`:
//
//   npm install stripe svix standardwebhooks @octokit/webhooks-methods @adyen/api-library twilio \
//     @contentful/node-apps-toolkit @shopware-ag/app-server-sdk @shopify/shopify-api
//   node make.mjs > vectors.json
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const version = (name) =>
  `${name} ${JSON.parse(readFileSync(join("node_modules", name, "package.json"))).version}`;

const TIME = 1795000000;
const TARGET = "/v1/sources/shop/events";
const BODY = '{"id":"evt_1","text":"Grüße – 9.90 €"}';
const vectors = [];
const add = (kind, name, secret, headers, more = {}) => {
  const lower = Object.entries(headers).map(([key, value]) => [key.toLowerCase(), value]);
  vectors.push({
    kind, made_by: name, secret, target: TARGET, time_ms: TIME * 1000, headers: Object.fromEntries(lower), body: BODY, ...more,
  });
};

{
  const { sign } = await import("@octokit/webhooks-methods");
  const name = version("@octokit/webhooks-methods");
  add("github", name, "It's a Secret to Everybody", { "X-Hub-Signature-256": await sign("It's a Secret to Everybody", BODY) });
}
{
  const Stripe = require("stripe");
  const secret = "whsec_c2VjcmV0IGFzIHRleHQ";
  const header = new Stripe("sk_test_x").webhooks.generateTestHeaderString({ payload: BODY, secret, timestamp: TIME });
  add("stripe", version("stripe"), secret, { "Stripe-Signature": header });
}
{
  const { Webhook } = require("svix");
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const signature = new Webhook(secret).sign("msg_1", new Date(TIME * 1000), BODY);
  add("svix", version("svix"), secret, { "svix-id": "msg_1", "svix-timestamp": `${TIME}`, "svix-signature": signature });
}
{
  const { Webhook } = require("standardwebhooks");
  const sent = (signature) => ({ "webhook-id": "msg_1", "webhook-timestamp": `${TIME}`, "webhook-signature": signature });
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const signed = new Webhook(secret).sign("msg_1", new Date(TIME * 1000), BODY);
  add("standard-webhooks", version("standardwebhooks"), secret, sent(signed));
  // BigCommerce documents this library with the client secret in base64.
  const client = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
  const by = new Webhook(Buffer.from(client).toString("base64")).sign("msg_1", new Date(TIME * 1000), BODY);
  add("bigcommerce", version("standardwebhooks"), client, sent(by));
}
{
  const { hmacValidator: Validator } = require("@adyen/api-library");
  const key = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
  const item = {
    additionalData: {}, amount: { currency: "EUR", value: 1130 }, eventCode: "AUTHORISATION", eventDate: "2026-11-29T10:00:00+01:00",
    merchantAccountCode: "TestMerchant", merchantReference: "Test:Payment\\1407325143704", paymentMethod: "visa",
    pspReference: "7914073381342284", success: "true",
  };
  item.additionalData.hmacSignature = new Validator().calculateHmac(item, key);
  const body = JSON.stringify({ live: "false", notificationItems: [{ NotificationRequestItem: item }] });
  add("adyen", version("@adyen/api-library"), key, {}, { body });
}
{
  const twilio = require("twilio");
  const url = "https://weir.example/v1/sources/shop/events";
  const form = { To: "+18005551212", From: "+14158675309", Body: "Grüße & mehr", Digits: "1234" };
  const signed = twilio.getExpectedTwilioSignature("12345", `${url}?lane=bulk`, form);
  const name = version("twilio");
  add("twilio", name, "12345", { "X-Twilio-Signature": signed, "Content-Type": "application/x-www-form-urlencoded" }, {
    url, target: `${TARGET}?lane=bulk`, body: new URLSearchParams(form).toString(),
  });
  const hash = twilio.getExpectedBodyHash(BODY);
  const json = twilio.getExpectedTwilioSignature("12345", `${url}?bodySHA256=${hash}`, {});
  add("twilio", name, "12345", { "X-Twilio-Signature": json, "Content-Type": "application/json" }, {
    url, target: `${TARGET}?bodySHA256=${hash}`,
  });
}
{
  const { signRequest } = require("@contentful/node-apps-toolkit");
  const secret = "contentful".repeat(7).slice(0, 64);
  for (const target of [TARGET, `${TARGET}?lane=bulk`]) {
    const headers = { "X-Contentful-Topic": "ContentManagement.Entry.publish", "X-Contentful-Webhook-Request-Attempt": "1" };
    const signed = signRequest(secret, { method: "POST", path: target, headers, body: BODY }, TIME * 1000);
    add("contentful", version("@contentful/node-apps-toolkit"), secret, { ...headers, ...signed }, { target });
  }
}
{
  const { WebCryptoHmacSigner } = await import("@shopware-ag/app-server-sdk");
  const signer = await (WebCryptoHmacSigner ?? (await import(join(process.cwd(), "node_modules/@shopware-ag/app-server-sdk/dist/esm/signer.js"))).WebCryptoHmacSigner);
  add("shopware", version("@shopware-ag/app-server-sdk"), "shop-secret-of-one-shop", {
    "shopware-shop-signature": await new signer().sign(BODY, "shop-secret-of-one-shop"),
  });
}
{
  await import("@shopify/shopify-api/adapters/node");
  const { shopifyApi, ApiVersion, LATEST_API_VERSION } = await import("@shopify/shopify-api");
  const secret = "shpss_0123456789abcdef0123456789abcdef";
  const shopify = shopifyApi({
    apiKey: "key", apiSecretKey: secret, hostName: "weir.example", isEmbeddedApp: false,
    apiVersion: LATEST_API_VERSION ?? Object.values(ApiVersion).at(-1), scopes: [], logger: { level: 0 },
  });
  // The library has no signer: it is asked whether it accepts what is signed here.
  const hmac = createHmac("sha256", secret).update(BODY).digest("base64");
  const older = {
    "X-Shopify-Hmac-Sha256": hmac, "X-Shopify-Topic": "products/update", "X-Shopify-Shop-Domain": "a.myshopify.com",
    "X-Shopify-API-Version": "2026-10", "X-Shopify-Webhook-Id": "b54557e4",
  };
  const newer = {
    "Shopify-Hmac-Sha256": hmac, "Shopify-Topic": "products/update", "Shopify-Shop-Domain": "a.myshopify.com",
    "Shopify-API-Version": "2026-10", "Shopify-Webhook-Id": "b54557e4", "Shopify-Event-Id": "e1",
  };
  for (const headers of [older, newer]) {
    const rawRequest = { method: "POST", url: TARGET, headers };
    const judged = await shopify.webhooks.validate({ rawBody: BODY, rawRequest, rawResponse: {} });
    if (!judged.valid) throw new Error(JSON.stringify(judged));
    add("shopify", `accepted by ${version("@shopify/shopify-api")}`, secret, headers);
  }
}
{
  // Akeneo has no library for it: Node's own HMAC over what its documentation says.
  const hmac = (secret, text) => createHmac("sha256", secret).update(text).digest("hex");
  const by = "node:crypto, as Akeneo documents it";
  add("akeneo", by, "primary-secret-of-16", {
    "X-AKENEO-SIGNATURE-PRIMARY": hmac("primary-secret-of-16", BODY),
    "X-AKENEO-SIGNATURE-SECONDARY": hmac("secondary-secret-16", BODY), "X-AKENEO-SIGNATURE-ALGORITHM": "HmacSHA256",
  });
  add("akeneo", by, "secondary-secret-16", { "X-AKENEO-SIGNATURE-SECONDARY": hmac("secondary-secret-16", BODY) });
  const old = "3ha6eonoa9icsckw8kccos084w0c0000g08g40oo4kww0gc8w4";
  add("akeneo-events", by, old, {
    "X-Akeneo-Request-Timestamp": `${TIME}`, "X-Akeneo-Request-Signature": hmac(old, `${TIME}.${BODY}`),
  });
}
console.log(JSON.stringify(vectors, null, 2));
