"""An HTTP/1.1 server that says what it got of an upload: `store.py ADDRESS PORT`. It asks for the body of whoever expects a 100, except at
a path that ends with /refused, where it answers 413 instead."""

import hashlib
import http.server
import sys


class Store(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_expect_100(self):
        if self.path.endswith("/refused"):
            self.answer(413, "too much")
            self.close_connection = True
            return False
        self.send_response_only(100)
        self.end_headers()
        return True

    def pieces(self):
        length = self.headers.get("Content-Length")
        if length is not None:
            yield self.rfile.read(int(length))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def take(self):
        digest, length = hashlib.sha256(), 0
        for piece in self.pieces():
            digest.update(piece)
            length += len(piece)
        expect = self.headers.get("Expect", "-")
        self.answer(200, f"{length} {digest.hexdigest()} expect={expect}")

    do_POST = do_PUT = take

    def do_GET(self):
        self.answer(200, "store")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Store).serve_forever()
