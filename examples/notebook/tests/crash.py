"""Cells run while the program is killed again and again: crash.py PROGRAM FOLDER ROUNDS

No process may be left, and the files must be whole.
"""
import asyncio
import glob
import json
import os
import random
import subprocess
import sys
import time
import urllib.request

import nbformat
import websockets

program, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
NAMES = ["a", "b", "c"]
CODE = """import subprocess
sleep = subprocess.Popen(["sleep", "1000"])
for number in range(1_000_000_000): print(number)
"""
figures = {"kernels": 0, "processes": 0}


def below(process):
    """All processes that this one has started, and those that they have."""
    found, parents = [], [process]
    while parents:
        parent = parents.pop()
        try:
            with open(f"/proc/{parent}/task/{parent}/children") as file:
                children = file.read().split()
        except FileNotFoundError:
            continue
        found += children
        parents += children
    return found


def is_there(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def work(base, token, name):
    headers = {"authorization": f"Bearer {token}"}
    address = f"{base}/n/{name}/socket".replace("http", "ws")
    try:
        async with websockets.connect(address, extra_headers=headers, max_size=None) as socket:
            cell = json.loads(await socket.recv())["cells"][0]["id"]
            while True:
                await socket.send(json.dumps({"type": "run", "id": cell, "source": CODE}))
                begun, end = False, time.monotonic() + random.uniform(0.2, 0.6)
                while not begun or time.monotonic() < end:
                    event = json.loads(await socket.recv())
                    begun = begun or event["type"] == "output"
                figures["kernels"] += 1
                await socket.send('{"type": "restart"}')
    except (OSError, websockets.WebSocketException):
        return


async def main():
    for round in range(rounds):
        process = subprocess.Popen(
            [program, "--listen", "tcp:0:interface=127.0.0.1", "--folder", folder],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        process.stdout.readline()
        base, token = process.stdout.readline().split()[1].split("/?token=")
        for name in NAMES if round == 0 else []:
            body = json.dumps({"name": name, "kernel": "python"}).encode()
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(f"{base}/notebooks", body, headers))
        pages = [asyncio.create_task(work(base, token, name)) for name in NAMES]
        await asyncio.sleep(random.uniform(0.1, 1.5))
        # Stopped first, so that it starts nothing between the two.
        os.kill(process.pid, 19)
        processes = below(process.pid)
        process.kill()
        process.wait()
        await asyncio.gather(*pages)
        figures["processes"] += len(processes)
        end = time.monotonic() + 20
        while left := [one for one in processes if is_there(one)]:
            assert time.monotonic() < end, left
            await asyncio.sleep(0.01)
        for path in glob.glob(f"{folder}/*.ipynb"):
            nbformat.validate(nbformat.read(path, 4))
    print(
        f"notebook: {rounds} times killed with {figures['processes']} processes below it, none "
        f"left; {figures['kernels']} kernels restarted until then; all files are whole"
    )


asyncio.run(main())
