"""What a page of a notebook shows, as JSON: whole.py URL NAME"""
import asyncio
import sys

import websockets

base, token = sys.argv[1].split("/?token=")


async def main():
    address = f"{base}/n/{sys.argv[2]}/socket".replace("http", "ws")
    headers = {"authorization": f"Bearer {token}"}
    async with websockets.connect(address, extra_headers=headers, max_size=None) as socket:
        print(await socket.recv())


asyncio.run(main())
