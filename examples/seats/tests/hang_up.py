"""Customers who hang up at once: hang_up.py URL DATABASE

Each asks for another seat. What they got in spite of that is in the database, and /changes must
tell of it.
"""
import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time

host, port = sys.argv[1].removeprefix("http://").split(":")
database = sys.argv[2]
ABORT = struct.pack("ii", 1, 0)
told, news = set(), threading.Condition()
follow = http.client.HTTPConnection(host, int(port), timeout=30)
follow.request("GET", "/changes")
answer = follow.getresponse()


def read():
    for line in answer:
        if line.startswith(b"data: {"):
            seat = json.loads(line[6:])
            with news:
                told.add((seat["flight"], seat["number"]))
                news.notify()


def held():
    sql = "SELECT flight, number FROM seat WHERE customer NOTNULL"
    lines = subprocess.run(["sqlite3", database, sql], capture_output=True, text=True, check=True)
    return {tuple(map(int, line.split("|"))) for line in lines.stdout.split()}


threading.Thread(target=read, daemon=True).start()
seats = [(flight, seat) for flight in (1, 2, 3) for seat in range(1, 61)]
for number, (flight, seat) in enumerate(seats):
    customer = socket.create_connection((host, int(port)))
    customer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    body = b'{"customer": "x"}'
    head = f"POST /flights/{flight}/{seat}/hold HTTP/1.1\r\nhost: x\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    customer.sendall(head.encode() + body)
    # At any moment of what the program does then.
    time.sleep(number % 60 / 10_000)
    customer.close()
# The last customer stays, and what was asked for before is done before.
last = http.client.HTTPConnection(host, int(port), timeout=30)
last.request("GET", "/flights")
last.getresponse().read()
with news:
    assert news.wait_for(lambda: held() <= told, 10), sorted(held() - told)
assert len(told) > 20, "nobody got a seat"
