"""A shop that responds with 422 to an entity whose key starts with `refused`, and with 200 to all others."""
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        refused = self.headers.get("weir-entity", "").startswith("product/refused")
        self.send_response(422 if refused else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
print(f"http://127.0.0.1:{server.server_port}/weir", flush=True)
sys.stdout.close()
server.serve_forever()
