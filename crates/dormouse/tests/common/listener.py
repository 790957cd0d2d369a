#!/usr/bin/env python3
"""An extension that subscribes to what its function prints, and writes what it hears to /tmp/heard."""

import http.server
import json
import os
import threading
import urllib.request

API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]


class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        heard = self.rfile.read(int(self.headers["content-length"])).decode()
        with open("/tmp/heard", "a") as file:
            file.write(heard)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def call(method, path, headers, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(API + path, data, headers, method=method)
    return urllib.request.urlopen(request)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
threading.Thread(target=server.serve_forever, daemon=True).start()
name = {"Lambda-Extension-Name": os.path.basename(__file__)}
registered = call("POST", "/2020-01-01/extension/register", name, {"events": ["INVOKE"]})
me = {"Lambda-Extension-Identifier": registered.headers["Lambda-Extension-Identifier"]}
call("PUT", "/2022-07-01/telemetry", me, {
    "schemaVersion": "2022-07-01",
    "types": ["function"],
    "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
    "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{server.server_address[1]}"},
})
while True:
    call("GET", "/2020-01-01/extension/event/next", me).read()
