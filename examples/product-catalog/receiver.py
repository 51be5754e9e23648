"""Three shops and a search engine in their simplest form: they store every delivery and print it.

PUT and DELETE /{shop}/p/{key} write a shop's pages. The search engine understands what Weir asks of Meilisearch: documents
and deletions are accepted as a task, which has always succeeded already. GET returns what is stored.
"""

import http.server
import itertools
import json
import sys
import threading

INDEX = "/indexes/products"
stored = {INDEX: json.dumps({"uid": "products", "primaryKey": "id"}).encode()}  # path -> body
tasks = itertools.count(1)
printing = threading.Lock()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.store(self.path, self.body())
        self.respond(200)

    def do_DELETE(self):
        self.remove(self.path)
        self.respond(200)

    def do_POST(self):
        path, _, _ = self.path.partition("?")
        documents = f"{INDEX}/documents"
        if path == documents:
            for line in self.body().splitlines():
                self.store(f"{documents}/{json.loads(line)['id']}", line)
        elif path == f"{documents}/delete-batch":
            for id in json.loads(self.body()):
                self.remove(f"{documents}/{id}")
        else:
            self.body()
            return self.respond(404)
        self.respond(202, {"taskUid": next(tasks), "indexUid": "products", "status": "enqueued"})

    def do_GET(self):
        if self.path.startswith("/tasks/"):
            return self.respond(200, {"uid": int(self.path.removeprefix("/tasks/")), "status": "succeeded"})
        self.respond(200 if self.path in stored else 404, stored.get(self.path, b"nothing here") + b"\n")

    def store(self, path, body):
        stored[path] = body
        self.report(f"{path} is now {body.decode()}")

    def remove(self, path):
        stored.pop(path, None)
        self.report(f"{path} is gone")

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def report(self, text):
        with printing:
            print(text, flush=True)

    def respond(self, status, body=b""):
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
print(f"receiving on http://127.0.0.1:{port}", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
