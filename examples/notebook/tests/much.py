"""Cells that say too much: much.py URL"""
import asyncio
import json
import sys
import urllib.request

import websockets

base, token = sys.argv[1].split("/?token=")
headers = {"authorization": f"Bearer {token}"}
MANY = """
import __main__
for _ in range(40):
    __main__.say("error", text="x" * 1_000_000)
"""


async def main():
    body = json.dumps({"name": "much", "kernel": "python"}).encode()
    more = {**headers, "content-type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(base + "/notebooks", body, more)).read()
    address = f"{base}/n/much/socket".replace("http", "ws")

    async def run(source):
        async with websockets.connect(address, extra_headers=headers, max_size=None) as socket:
            whole = json.loads(await asyncio.wait_for(socket.recv(), 30))
            wish = {"type": "run", "id": whole["cells"][0]["id"], "source": source}
            await socket.send(json.dumps(wish))
            started = False
            while True:
                event = json.loads(await asyncio.wait_for(socket.recv(), 30))
                started |= event.get("state") == "running"
                if started and event["type"] == "state" and event["state"] == "idle":
                    break
        # A page that comes now gets all of it.
        async with websockets.connect(address, extra_headers=headers, max_size=None) as socket:
            whole = json.loads(await asyncio.wait_for(socket.recv(), 30))
            return whole["cells"][0]["outputs"]

    await run("x = 1")
    outputs = await run("raise ValueError('x' * 20_000_000)")
    assert "left out" in outputs[-1]["text"][-100:], outputs[-1]["text"][:100]
    outputs = await run("'x' * 20_000_000")
    assert outputs[-1]["kind"] == "error", outputs[-1]["text"][:100]
    outputs = await run(MANY)
    size = sum(len(output["text"]) for output in outputs)
    assert size < 20_000_000, size
    outputs = await run("x")
    assert outputs == [{"kind": "value", "text": "1"}], outputs


asyncio.run(main())
