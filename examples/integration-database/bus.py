"""Makes the bucket `catalog` of NATS, and shows what is written into it, with Python alone.

python3 bus.py make: as `nats kv add catalog` does.
python3 bus.py watch: as `nats kv watch catalog` does; what is there already comes first.
"""

import json
import os
import socket
import sys
from urllib.parse import urlsplit

STREAM, PREFIX, INBOX, SHOWN = "KV_catalog", "$KV.catalog.", "_INBOX.example.answers", "_INBOX.example.shown"


class Bus:
    def __init__(self, url):
        at = urlsplit(url)
        self.socket = socket.create_connection((at.hostname, at.port or 4222))
        self.lines = self.socket.makefile("rb")
        self.waiting = []
        self.send('CONNECT {"verbose": false, "headers": true}', f"SUB {INBOX} 1", f"SUB {SHOWN} 2")

    def send(self, *lines):
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def next(self):
        """The next message: its subject, its headers, its content."""
        return self.waiting.pop(0) if self.waiting else self.read()

    def read(self):
        while words := self.lines.readline().split():
            if words[0] == b"PING":
                self.send("PONG")
            elif words[0] == b"-ERR":
                sys.exit(b" ".join(words).decode())
            elif words[0] in (b"MSG", b"HMSG"):
                headers = int(words[-2]) if words[0] == b"HMSG" else 0
                message = self.lines.read(int(words[-1]) + 2)[:-2].decode()
                return words[1].decode(), message[:headers], message[headers:]
        sys.exit("NATS has closed the connection")

    def ask(self, subject, question):
        """Asks JetStream, and stops if it says no."""
        body = json.dumps(question)
        self.send(f"PUB $JS.API.{subject} {INBOX} {len(body)}", body)
        # The first messages that it asked for may arrive before the answer.
        while (message := self.read())[0] != INBOX:
            self.waiting.append(message)
        answer = json.loads(message[2])
        if "error" in answer:
            sys.exit(answer["error"]["description"])


def make(bus):
    bus.ask(f"STREAM.CREATE.{STREAM}", {
        "name": STREAM,
        "subjects": [PREFIX + ">"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    })


def watch(bus):
    bus.ask(f"CONSUMER.CREATE.{STREAM}", {
        "stream_name": STREAM,
        "config": {
            "deliver_subject": SHOWN,
            "deliver_policy": "last_per_subject",
            "filter_subject": PREFIX + ">",
            "ack_policy": "none",
        },
    })
    while True:
        subject, headers, content = bus.next()
        gone = "weir-deleted: true" in headers.lower()
        print(subject.removeprefix(PREFIX), "is gone" if gone else content, flush=True)


{"make": make, "watch": watch}[sys.argv[1]](Bus(os.environ["NATS_URL"]))
