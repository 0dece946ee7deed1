"""Kernels, by the library `websockets`: kernels.py URL FOLDER"""
import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request

import websockets

url, folder = sys.argv[1:3]
base, token = url.split("/?token=")
headers = {"authorization": f"Bearer {token}"}


def ask(method, path, value=None, headers=headers):
    body = None if value is None else json.dumps(value).encode()
    headers = {**headers, "content-type": "application/json"}
    request = urllib.request.Request(base + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None


class Page:
    def __init__(self, name, headers=headers):
        address = f"{base}/n/{name}/socket".replace("http", "ws")
        self.connecting = websockets.connect(address, extra_headers=headers, max_size=None)

    async def __aenter__(self):
        self.socket = await self.connecting.__aenter__()
        whole = await self.hear("whole")
        self.cell = whole["cells"][0]["id"]
        self.kind = whole["kind"]
        return self

    async def __aexit__(self, *why):
        await self.connecting.__aexit__(*why)

    async def say(self, **wish):
        await self.socket.send(json.dumps(wish))

    async def hear(self, kind, **more):
        while True:
            event = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
            if event["type"] == kind and all(event[name] == value for name, value in more.items()):
                return event

    async def start(self, source):
        await self.say(type="run", id=self.cell, source=source)
        await self.hear("state", state="running")

    async def end(self):
        """The outputs of a cell that runs."""
        texts = {"text": "", "value": "", "error": ""}
        while True:
            event = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
            if event["type"] == "output":
                texts[event["output"]["kind"]] += event["output"]["text"]
            elif event["type"] == "whole":
                texts = {"text": "", "value": "", "error": ""}
                for output in event["cells"][0]["outputs"]:
                    texts[output["kind"]] += output["text"]
                if event["cells"][0]["state"] == "idle":
                    return texts
            elif event["type"] == "state" and event["state"] == "idle":
                return texts

    async def lines(self, count):
        """What a cell that runs has printed, when it has this many lines."""
        text = ""
        while text.count("\n") < count:
            text += (await self.hear("output"))["output"]["text"]
        return text

    async def run(self, source):
        await self.start(source)
        return await self.end()


def is_there(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_gone(processes):
    deadline = time.monotonic() + 10
    while left := [process for process in processes if is_there(process)]:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.01)


async def python():
    assert ask("POST", "/notebooks", {"name": "one", "kernel": "python"})[0] == 201
    assert ask("POST", "/notebooks", {"name": "one", "kernel": "python"})[0] == 409
    async with Page("one") as page:
        said = await page.run("x = 20\nprint('hello')\nx * 2 + 2")
        assert said == {"text": "hello\n", "value": "42", "error": ""}, said
        # Output comes while the cell runs, in order, whoever writes it.
        await page.start(
            "import subprocess, sys, time\nprint('1')\nsubprocess.run(['echo', '2'])\n"
            "print('3', file=sys.stderr)\ntime.sleep(60)"
        )
        assert await page.lines(3) == "1\n2\n3\n"
        # A second page sees all of it.
        async with Page("one") as other:
            await other.say(type="interrupt")
            assert "KeyboardInterrupt" in (await other.end())["error"]
        assert "KeyboardInterrupt" in (await page.end())["error"]
        said = await page.run("x")
        assert said["value"] == "20", said
        said = await page.run("1 / 0")
        assert said["error"].endswith("ZeroDivisionError: division by zero\n"), said
        assert 'File "<cell' in said["error"] and "1 / 0" in said["error"], said
        said = await page.run("for i in range(300_000): print('x' * 50)")
        assert len(said["text"]) <= 600_000 and "too much output" in said["error"], said["error"]
        said = await page.run("print('fine')")
        assert said["text"] == "fine\n", said

        # What does not care for interrupts, and what a cell has started, ends with a restart.
        await page.start(
            "import os, signal, subprocess\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "sleep = subprocess.Popen(['sleep', '1000'])\nprint(os.getpid(), sleep.pid)\n"
            "while True: pass"
        )
        processes = (await page.lines(1)).split()
        await page.say(type="interrupt")
        await page.say(type="restart")
        assert "restarted" in (await page.end())["error"]
        await until_gone(processes)
        said = await page.run("x")
        assert "NameError" in said["error"], said
        said = await page.run("import os; os._exit(3)")
        assert "exit status: 3" in said["error"], said
        said = await page.run("1 + 1")
        assert said["value"] == "2", said


async def shell():
    assert ask("POST", "/notebooks", {"name": "two", "kernel": "shell"})[0] == 201
    async with Page("two") as page:
        said = await page.run("x=ä\ncd /\npwd; echo $x")
        assert said == {"text": "/\nä\n", "value": "", "error": ""}, said
        said = await page.run("pwd; false")
        assert said == {"text": "/\n", "value": "", "error": "exit status 1"}, said
        for forever in ("sleep 1000", "while :; do :; done"):
            await page.start(forever)
            ending = asyncio.ensure_future(page.end())
            while not ending.done():
                # bash does not notice one that comes just before it starts a command.
                await page.say(type="interrupt")
                await asyncio.wait([ending], timeout=2)
            said = await ending
            assert said["error"] == "exit status 130", (forever, said)
        said = await page.run("echo $x")
        assert said["text"] == "ä\n", said


async def other():
    assert ask("POST", "/notebooks", {"name": "three", "kernel": "mine"})[0] == 201
    async with Page("three") as page:
        said = await page.run("6 * 7")
        assert said["value"] == "42", said


async def many():
    names = [f"many {number}" for number in range(20)]
    for name in names:
        assert ask("POST", "/notebooks", {"name": name, "kernel": "python"})[0] == 201

    async def work(number, name):
        async with Page(name.replace(" ", "%20")) as page:
            for round in range(3):
                said = await page.run(f"{number} * {number} + {round}")
                assert said["value"] == str(number * number + round), said

    await asyncio.gather(*(work(number, name) for number, name in enumerate(names)))
    kernels = [entry["kernel"] for entry in ask("GET", "/notebooks")[1]["notebooks"]]
    assert len(set(kernels) - {None}) == 23, kernels


async def strangers():
    assert ask("GET", "/notebooks", headers={})[0] == 401
    assert ask("GET", "/notebooks", headers={"authorization": "Bearer 0"})[0] == 401
    assert ask("GET", "/notebooks", headers={**headers, "origin": "http://example.org"})[0] == 403
    assert ask("GET", "/notebooks", headers={**headers, "host": "example.org"})[0] == 421
    assert ask("POST", "/notebooks", {"name": "../x", "kernel": "python"})[0] == 400
    assert ask("GET", "/n/none")[0] == 404
    foreign = {**headers, "origin": "http://example.org"}
    for wrong, status in (({}, 401), (foreign, 403)):
        try:
            async with Page("one", wrong):
                sys.exit("a stranger was let in")
        except websockets.InvalidStatusCode as error:
            assert error.status_code == status, error


async def main():
    await python()
    await shell()
    await other()
    await many()
    await strangers()
    # Left for the end of the program: a cell that runs, and what it has started.
    async with Page("one") as page:
        await page.start(
            "import os, subprocess\nsleep = subprocess.Popen(['sleep', '1000'])\n"
            "print(os.getpid(), sleep.pid)\nwhile True: pass"
        )
        print(await page.lines(1))


asyncio.run(main())
