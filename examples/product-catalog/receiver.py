"""Three shops and a search index, as small as they can be: they keep what they are given and tell each delivery.

PUT and DELETE /{shop}/p/{key} are a shop's pages, POST /search takes documents in batches. GET shows what is kept.
"""

import http.server
import json
import sys
import threading
import urllib.parse

kept = {}  # path -> body
telling = threading.Lock()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        kept[self.path] = self.body()
        self.tell(f"{self.path} is now {kept[self.path].decode()}")

    def do_DELETE(self):
        kept.pop(self.path, None)
        self.tell(f"{self.path} is gone")

    def do_POST(self):
        told = []
        for item in json.loads(self.body()):
            path = f"{self.path}/{urllib.parse.quote(item['key'], safe='')}"
            if item["deleted"]:
                kept.pop(path, None)
                told.append(f"{path} is gone")
            else:
                kept[path] = json.dumps(item["content"], ensure_ascii=False).encode()
                told.append(f"{path} is now {kept[path].decode()}")
        self.tell("\n".join(told))

    def do_GET(self):
        self.answer(200 if self.path in kept else 404, kept.get(self.path, b"nothing here") + b"\n")

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def tell(self, what):
        with telling:
            print(what, flush=True)
        self.answer(200)

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
print(f"receiving on http://127.0.0.1:{port}", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
