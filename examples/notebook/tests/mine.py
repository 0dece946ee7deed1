"""The smallest kernel: each cell is an expression."""
import json
import os
import sys

mark = os.environ["MARK"].encode()


def say(kind, **more):
    os.write(3, json.dumps({"type": kind, **more}).encode() + b"\n")
    os.write(1, mark)


say("ready")
while line := sys.stdin.buffer.readline():
    _, length = map(int, line.split())
    say("value", text=str(eval(sys.stdin.buffer.read(length).decode())))
    say("done")
