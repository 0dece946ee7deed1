"""The program `chat`, with gevent: browsers by WebSocket, paired across processes by Redis.

strangers_gevent.py SOCKET OF REDIS"""
from gevent import monkey

monkey.patch_all()
import json
import sys
import uuid

import gevent
import redis
from geventwebsocket import Resource, WebSocketApplication, WebSocketServer

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
server = redis.Redis(unix_socket_path=sys.argv[1])


class Stranger(WebSocketApplication):
    partner = None

    def on_open(self):
        self.id = [process, len(people)]
        people[self.id[1]] = self
        self.tell({"type": "waiting"})
        server.eval(FIND, 0, json.dumps(self.id))

    def on_message(self, message):
        if message is None or self.partner is None:
            return
        event = json.loads(message)
        if event["type"] == "say":
            send(self.partner, {"type": "said", "text": event["text"]})

    def tell(self, event):
        self.ws.send(json.dumps(event))

    def on_close(self, reason):
        if self.partner:
            send(self.partner, {"type": "gone"})


def send(to, event):
    if to[0] == process:
        people[to[1]].tell(event)
    else:
        server.publish(to[0], json.dumps({"event": [to, event]}))


def listen():
    channel = server.pubsub()
    channel.subscribe(process)
    for item in channel.listen():
        if item["type"] != "message":
            continue
        message = json.loads(item["data"])
        if "event" in message:
            to, event = message["event"]
            people[to[1]].tell(event)
            continue
        one, other = message["pair"]
        for me, partner in ((one, other), (other, one)):
            if me[0] == process:
                people[me[1]].partner = partner
                people[me[1]].tell({"type": "paired"})


gevent.spawn(listen)
web = WebSocketServer(("127.0.0.1", 0), Resource([("/talk", Stranger)]), backlog=1024, log=None)
web.start()
print("http listening on 127.0.0.1:%d" % web.server_port, flush=True)
web.serve_forever()
