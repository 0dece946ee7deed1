"""Edits a notebook, then looks at as many others as may be open, then at it again, and prints what
it is: many.py URL"""
import asyncio
import json
import sys
import urllib.request

import websockets

base, token = sys.argv[1].split("/?token=")
headers = {"authorization": f"Bearer {token}"}


def ask(path, body=None):
    data = body and json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, headers)
    if body:
        request.add_header("content-type", "application/json")
    urllib.request.urlopen(request).read()


def socket(name):
    address = f"{base}/n/{name}/socket".replace("http", "ws")
    return websockets.connect(address, extra_headers=headers, max_size=None)


async def main():
    names = [f"n{number}" for number in range(65)]
    for name in names:
        ask("/notebooks", {"name": name, "kernel": "mine"})
    async with socket("n0") as page:
        cell = json.loads(await page.recv())["cells"][0]["id"]
        await page.send(json.dumps({"type": "edit", "id": cell, "source": "not yet written"}))
    for name in names[1:]:
        ask(f"/n/{name}")
    async with socket("n0") as page:
        print(await page.recv())


asyncio.run(main())
