"""Three shops and a search index in their simplest form: they store every delivery and print it.

PUT and DELETE /{shop}/p/{key} write a shop's pages, POST /search accepts documents in batches, and GET returns what is stored.
"""

import http.server
import json
import sys
import threading
import urllib.parse

stored = {}  # path -> body
printing = threading.Lock()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        stored[self.path] = self.body()
        self.report(f"{self.path} is now {stored[self.path].decode()}")

    def do_DELETE(self):
        stored.pop(self.path, None)
        self.report(f"{self.path} is gone")

    def do_POST(self):
        lines = []
        for item in json.loads(self.body()):
            path = f"{self.path}/{urllib.parse.quote(item['key'], safe='')}"
            if item["deleted"]:
                stored.pop(path, None)
                lines.append(f"{path} is gone")
            else:
                stored[path] = json.dumps(item["content"], ensure_ascii=False).encode()
                lines.append(f"{path} is now {stored[path].decode()}")
        self.report("\n".join(lines))

    def do_GET(self):
        self.respond(200 if self.path in stored else 404, stored.get(self.path, b"nothing here") + b"\n")

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def report(self, text):
        with printing:
            print(text, flush=True)
        self.respond(200)

    def respond(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
print(f"receiving on http://127.0.0.1:{port}", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
