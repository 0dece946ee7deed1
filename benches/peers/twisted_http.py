"""twisted.web on its epoll reactor.

Arguments: --http ADDRESS. The file is in ENTWINED_BENCH_FILES.
"""
import json
import os
import sys

from twisted.internet import epollreactor

epollreactor.install()
from twisted.internet import endpoints, reactor
from twisted.web import resource, server, static

RECORDS = [
    {"id": i, "name": f"lighthouse number {i}", "place": [i * 0.25 + 50.0, -i * 0.125], "tags": ["stone", "white", "two storeys"]}
    for i in range(102)
]


class Hello(resource.Resource):
    isLeaf = True

    def render_GET(self, request):
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return b"hello, world"


class Records(resource.Resource):
    isLeaf = True

    def render_GET(self, request):
        request.setHeader(b"content-type", b"application/json")
        return json.dumps(RECORDS, separators=(",", ":")).encode()


root = resource.Resource()
root.putChild(b"hello", Hello())
root.putChild(b"json", Records())
root.putChild(b"file.bin", static.File(os.path.join(os.environ["ENTWINED_BENCH_FILES"], "file.bin")))
host, port = sys.argv[2].rsplit(":", 1)
listening = endpoints.TCP4ServerEndpoint(reactor, int(port), interface=host).listen(server.Site(root))
listening.addCallback(lambda port: print(f"http listening on 127.0.0.1:{port.getHost().port}", flush=True))
reactor.run()
