"""A shop with a GraphQL API in the manner of Shopify's Admin API. It prints what it stores and what it refuses.

POST /admin/oauth/access_token   a token for a client's id and secret, valid for ten seconds
POST /admin/api/graphql.json     productSet, which creates a product or replaces it, known by its handle
GET  /products/{handle}          what is stored
GET  /products                   how many products there are, and how many requests were throttled
POST /revoke                     makes all tokens invalid, as if somebody had installed the app again

Each mutation costs 10 points. There are 100, and 50 come back each second. Whoever has too few gets status 200 with THROTTLED.
"""

import http.server
import json
import secrets
import sys
import threading
import time
import urllib.parse

CLIENT = ("weir", "an-example-secret")
TOKEN_SECONDS = 10
MAXIMUM, RESTORE, COST = 100.0, 50.0, 10

lock = threading.Lock()
tokens = {}  # token -> when it expires
products = {}  # handle -> input
points, points_at = MAXIMUM, time.monotonic()
counts = {"requests": 0, "throttled": 0}


def take_points():
    """Takes the cost of a mutation from the budget. Returns what is left, and whether it was enough."""
    global points, points_at
    now = time.monotonic()
    points = min(MAXIMUM, points + (now - points_at) * RESTORE)
    points_at = now
    if points < COST:
        return points, False
    points -= COST
    return points, True


def user_errors(old, given):
    """What is wrong with a product, as the API says it."""
    errors = []
    title = given.get("title", old.get("title", ""))
    if not title:
        errors.append({"field": ["input", "title"], "message": "Title can't be blank", "code": "BLANK"})
    for at, variant in enumerate(given.get("variants", [])):
        try:
            float(variant["price"])
        except ValueError:
            field = ["input", "variants", str(at), "price"]
            errors.append({"field": field, "message": "Price is not a number", "code": "INVALID_INPUT"})
    return errors


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with lock:
            if self.path == "/admin/oauth/access_token":
                self.token(dict(urllib.parse.parse_qsl(body.decode())))
            elif self.path == "/admin/api/graphql.json":
                self.graphql(body)
            elif self.path == "/revoke":
                tokens.clear()
                print("all tokens are revoked", flush=True)
                self.answer(204)
            else:
                self.answer(404)

    def do_GET(self):
        with lock:
            if self.path == "/products":
                self.answer(200, {"products": len(products)} | counts)
            else:
                product = products.get(self.path.removeprefix("/products/"))
                self.answer(404 if product is None else 200, product)

    def token(self, form):
        client = (form.get("client_id"), form.get("client_secret"))
        if form.get("grant_type") != "client_credentials" or client != CLIENT:
            return self.answer(400, {"error": "invalid_client"})
        token = secrets.token_hex(16)
        tokens[token] = time.monotonic() + TOKEN_SECONDS
        print(f"a token for {client[0]}", flush=True)
        self.answer(200, {"access_token": token, "scope": "write_products", "expires_in": TOKEN_SECONDS})

    def graphql(self, body):
        if tokens.get(self.headers.get("X-Shopify-Access-Token"), 0) < time.monotonic():
            print("a request without a valid token", flush=True)
            message = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return self.answer(401, {"errors": message})
        counts["requests"] += 1
        left, enough = take_points()
        throttle = {"maximumAvailable": MAXIMUM, "currentlyAvailable": int(left), "restoreRate": RESTORE}
        cost = {"requestedQueryCost": COST, "actualQueryCost": COST if enough else None, "throttleStatus": throttle}
        if not enough:
            counts["throttled"] += 1
            error = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
            return self.answer(200, {"errors": [error], "extensions": {"cost": cost}})
        request = json.loads(body)
        if "productSet(" not in request["query"]:
            return self.answer(200, {"errors": [{"message": "Unknown mutation"}], "extensions": {"cost": cost}})
        handle, given = request["variables"]["identifier"]["handle"], request["variables"]["input"]
        errors = user_errors(products.get(handle, {}), given)
        product = None
        if errors:
            print(f"{handle} is refused: {errors[0]['message']}", flush=True)
        else:
            products[handle] = stored = products.get(handle, {}) | given
            product = {"id": f"gid://shopify/Product/{abs(hash(handle)) % 10**10}"}
            print(f"{handle} is {stored['status']}: {stored['title']}, {stored['variants'][0]['price']}", flush=True)
        data = {"productSet": {"product": product, "userErrors": errors}}
        self.answer(200, {"data": data, "extensions": {"cost": cost}})

    def answer(self, status, body=None):
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
print(f"the shop's API is at http://127.0.0.1:{port}", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Api).serve_forever()
