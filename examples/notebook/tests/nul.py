"""Writes a NUL into a notebook's first cell, then adds another that runs: nul.py URL NAME"""
import asyncio
import json
import sys

import websockets

base, token = sys.argv[1].split("/?token=")
address = f"{base}/n/{sys.argv[2]}/socket".replace("http", "ws")
headers = {"authorization": f"Bearer {token}"}


async def main():
    async with websockets.connect(address, extra_headers=headers) as page:
        whole = json.loads(await asyncio.wait_for(page.recv(), 30))
        cell = whole["cells"][0]["id"]
        for source in ["never\0ending", "never\0ending 2"]:
            await page.send(json.dumps({"type": "edit", "id": cell, "source": source}))
        while json.loads(await asyncio.wait_for(page.recv(), 30)).get("source") != source:
            pass


asyncio.run(main())
