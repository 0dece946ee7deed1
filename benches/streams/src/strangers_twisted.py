"""The program `chat`, with Twisted: browsers by autobahn, paired across processes by Redis.

strangers_twisted.py SOCKET OF REDIS"""
from twisted.internet import epollreactor

epollreactor.install()
import json
import sys
import uuid

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import endpoints, protocol, reactor

FIND = """
local found = redis.call('LPOP', 'waiting')
if not found then return redis.call('RPUSH', 'waiting', ARGV[1]) end
local pair = '{"pair":[' .. ARGV[1] .. ',' .. found .. ']}'
local me, other = cjson.decode(ARGV[1])[1], cjson.decode(found)[1]
redis.call('PUBLISH', me, pair)
if other ~= me then redis.call('PUBLISH', other, pair) end
"""

process = uuid.uuid4().hex
people = {}


class Redis(protocol.Protocol):
    """What is needed of its protocol: commands, whose answers nobody needs, and messages."""

    rest = b""

    def command(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word.encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.transport.write(b"".join(parts))

    def dataReceived(self, data):
        if self is not subscriber:
            return
        lines = (self.rest + data).split(b"\r\n")
        # A message is *3, message, the channel and the text, each after its length.
        while len(lines) > 7:
            if lines[2] == b"message":
                heard(json.loads(lines[6]))
                del lines[:7]
            else:
                del lines[:6]
        self.rest = b"\r\n".join(lines)


class Stranger(WebSocketServerProtocol):
    partner = None

    def onOpen(self):
        self.id = [process, len(people)]
        people[self.id[1]] = self
        self.tell({"type": "waiting"})
        commands.command("EVAL", FIND, "0", json.dumps(self.id))

    def onMessage(self, payload, isBinary):
        if self.partner is None:
            return
        event = json.loads(payload)
        if event["type"] == "say":
            send(self.partner, {"type": "said", "text": event["text"]})

    def tell(self, event):
        self.sendMessage(json.dumps(event).encode())

    def onClose(self, wasClean, code, reason):
        if self.partner:
            send(self.partner, {"type": "gone"})


def send(to, event):
    if to[0] == process:
        people[to[1]].tell(event)
    else:
        commands.command("PUBLISH", to[0], json.dumps({"event": [to, event]}))


def heard(message):
    if "event" in message:
        to, event = message["event"]
        return people[to[1]].tell(event)
    one, other = message["pair"]
    for me, partner in ((one, other), (other, one)):
        if me[0] == process:
            people[me[1]].partner = partner
            people[me[1]].tell({"type": "paired"})


commands, subscriber = Redis(), Redis()
for link in (commands, subscriber):
    place = endpoints.UNIXClientEndpoint(reactor, sys.argv[1])
    endpoints.connectProtocol(place, link)


def start():
    subscriber.command("SUBSCRIBE", process)
    factory = WebSocketServerFactory()
    factory.protocol = Stranger
    factory.setProtocolOptions(tcpNoDelay=True)
    port = reactor.listenTCP(0, factory, backlog=1024, interface="127.0.0.1")
    print("http listening on 127.0.0.1:%d" % port.getHost().port, flush=True)


reactor.callLater(0.3, start)
reactor.run()
