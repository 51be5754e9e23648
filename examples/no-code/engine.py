"""A search engine in its simplest form: it understands what Weir asks of Meilisearch, and prints each document.

Documents and deletions are accepted as a task, which has always succeeded already.
"""

import http.server
import itertools
import json
import sys

DOCUMENTS = "/indexes/products/documents"
tasks = itertools.count(1)


class Engine(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, _ = self.path.partition("?")
        if path == DOCUMENTS:
            for line in body.splitlines():
                document = json.loads(line)
                id = document.pop("id")
                shown = {name: value for name, value in document.items() if not name.startswith("weir_")}
                print(f"{id} is now {json.dumps(shown, ensure_ascii=False)}", flush=True)
        elif path == f"{DOCUMENTS}/delete-batch":
            for id in json.loads(body):
                print(f"{id} is gone", flush=True)
        self.respond(202, {"taskUid": next(tasks), "indexUid": "products", "status": "enqueued"})

    def do_GET(self):
        if self.path.startswith("/tasks/"):
            return self.respond(200, {"uid": int(self.path.removeprefix("/tasks/")), "status": "succeeded"})
        self.respond(200, {"uid": "products", "primaryKey": "id"})

    def respond(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
print(f"the search engine is at http://127.0.0.1:{port}", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Engine).serve_forever()
