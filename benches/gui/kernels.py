"""20 notebooks whose kernels print without end, or one that waits: kernels.py URL busy|idle

The window shows one of them. The kernels have the other processor, so that what is measured is the
window, and not who is next on its processor."""
import asyncio
import json
import sys
import urllib.request

import websockets

base, token = sys.argv[1].split("/?token=")
busy = sys.argv[2] == "busy"
headers = {"authorization": f"Bearer {token}"}
APART = "import os\nos.sched_setaffinity(0, [1])\n"
PRINT = "n = 0\nwhile True:\n    n += 1\n    print('line', n, 'of what a cell has to say')"
WAIT = "import time\nprint('begun')\ntime.sleep(1000)"


def create(name):
    body = json.dumps({"name": name, "kernel": "python"}).encode()
    kind = {"content-type": "application/json"}
    request = urllib.request.Request(base + "/notebooks", body, headers | kind, method="POST")
    urllib.request.urlopen(request, timeout=20).close()


async def run(name):
    address = f"{base}/n/{name}/socket".replace("http", "ws")
    async with websockets.connect(address, extra_headers=headers, max_size=None) as socket:
        cell = json.loads(await socket.recv())["cells"][0]["id"]
        source = APART + (PRINT if busy else WAIT)
        await socket.send(json.dumps({"type": "run", "id": cell, "source": source}))
        while json.loads(await socket.recv())["type"] != "output":
            pass


async def main():
    names = [f"notebook{number}" for number in range(20 if busy else 1)]
    for name in names:
        create(name)
    await asyncio.gather(*map(run, names))


asyncio.run(main())
print("begun", flush=True)
