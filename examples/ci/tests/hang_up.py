"""People who hang up at once: hang_up.py URL DATABASE FOLDER

Whatever was written into the database in spite of that must be done: builds begin, and what is
cancelled is killed. Nobody else asks for anything meanwhile.
"""
import json
import os
import socket
import struct
import subprocess
import sys
import time

host, port = sys.argv[1].removeprefix("http://").split(":")
database, folder = sys.argv[2:]
ABORT = struct.pack("ii", 1, 0)


def ask(path, value, delay):
    body = json.dumps(value).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(delay)


def states():
    sql = "SELECT id, state FROM build"
    lines = subprocess.run(["sqlite3", database, sql], capture_output=True, text=True)
    return dict(line.split("|") for line in lines.stdout.split())


def until(holds, what):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, f"{what}: {states()}"
        time.sleep(0.01)


def is_alive(build):
    """Whether the processes of a build are there."""
    try:
        with open(f"{folder}/{build}.pid") as file:
            os.kill(int(file.read()), 0)
        return True
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False  # It has gone, or has not written its number yet.


def those(*wanted):
    return [build for build, state in states().items() if state in wanted]


for number in range(60):
    delay = number / 10_000
    ask("/builds", {"script": f"echo $$ > {folder}/$BUILD.pid; exec sleep 1000"}, delay)
    while those("queued", "running"):
        until(lambda: those("running") or not those("queued"), "a build does not begin")
        for build in those("running"):
            until(lambda: is_alive(build), "a build does not run")
            ask(f"/builds/{build}/cancel", {}, delay)
            while states()[build] != "cancelled":
                # This time they are there for long enough.
                ask(f"/builds/{build}/cancel", {}, 0.05)
            until(lambda: not is_alive(build), "what is cancelled goes on")
assert len(states()) > 10, "nothing was asked for"
