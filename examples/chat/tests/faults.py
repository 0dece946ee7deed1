"""People who talk while processes are killed: faults.py PROGRAM FOLDER ROUNDS

Three processes of the chat and a Redis. In each round one of the four is killed at a random moment
and started again. Nobody may be stranded, or hear what their partner did not say to them, or hear
it twice; and then all are paired again.
"""
import asyncio
import collections
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

import websockets

program, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
PEOPLE = 40
PATIENCE = 30
figures = collections.Counter()
noticed = []


class Process:
    def __init__(self, command):
        self.command = command
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.born()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Chat(Process):
    def born(self):
        line = self.process.stdout.readline()
        self.address = line.split()[-1]
        self.process.stdout.readline()


class Redis(Process):
    def born(self):
        for line in self.process.stdout:
            if "eady to accept connections" in line:
                break
        # What it prints is read, so that it never waits for us.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()


class Person:
    # A cancellation can be lost while a connection is made, so this ends them too.
    lives = True

    def __init__(self, number, home):
        self.number = number
        self.home = home
        self.clear()
        # Changes with each connection and each partner, so that an old word is known as such.
        self.life = 0
        self.heard = 0

    def clear(self):
        self.partner = None
        self.seen = -1
        self.stranded = None

    async def live(self):
        while Person.lives:
            try:
                async with websockets.connect(f"ws://{self.home.address}/talk") as self.socket:
                    await self.talk()
            except (OSError, websockets.WebSocketException, asyncio.TimeoutError, EOFError):
                figures["connections lost"] += 1
            self.clear()
            await asyncio.sleep(0.05)

    async def talk(self):
        async for text in self.socket:
            event = json.loads(text)
            kind = event["type"]
            if kind == "paired":
                self.clear()
                self.life += 1
                await self.say(0)
            elif kind == "gone":
                if self.stranded:
                    noticed.append(time.monotonic() - self.stranded)
                self.clear()
                await self.socket.send('{"type": "next"}')
            elif kind == "said":
                await self.hear(event["text"])

    async def say(self, count):
        await self.socket.send(
            json.dumps({"type": "say", "text": f"{self.number} {self.life} {count}"})
        )

    async def hear(self, text):
        number, life, count = map(int, text.split())
        assert number != self.number, text
        if self.partner is None:
            self.partner = (number, life)
        assert self.partner == (number, life), f"{text} is not of {self.partner}"
        assert count == self.seen + 1, f"{count} after {self.seen}"
        self.seen = count
        self.heard += 1
        figures["words"] += 1
        await asyncio.sleep(0.01)
        await self.say(count + 1)


def check(tasks):
    for task in tasks:
        if task.done():
            task.result()


async def all_talk(people, tasks):
    """Waits until everybody has heard something new twice."""
    start = time.monotonic()
    before = [person.heard for person in people]
    while not all(person.heard > heard + 1 for person, heard in zip(people, before)):
        check(tasks)
        silent = [p.number for p, heard in zip(people, before) if p.heard <= heard + 1]
        assert time.monotonic() < start + PATIENCE, f"{silent} talk to nobody"
        await asyncio.sleep(0.02)
    return time.monotonic() - start


async def kills():
    path = os.path.join(folder, "redis.sock")
    redis = Redis(["redis-server", "--port", "0", "--save", "", "--unixsocket", path])
    anywhere = "tcp:0:interface=127.0.0.1"
    command = [program, "--listen", anywhere, "--lines", anywhere, f"--hub=unix://{path}"]
    chats = [Chat(command) for _ in range(3)]
    people = [Person(number, chats[number % 3]) for number in range(PEOPLE)]
    tasks = [asyncio.create_task(person.live()) for person in people]
    again = []
    try:
        await all_talk(people, tasks)
        for number in range(rounds):
            victim = [*chats, redis][number % 4] if rounds < 8 else random.choice([*chats, redis])
            await asyncio.sleep(random.uniform(0, 0.3))
            now = time.monotonic()
            for person in people:
                if victim is not person.home and person.partner:
                    partner = people[person.partner[0]]
                    if victim is redis and partner.home is not person.home or partner.home is victim:
                        person.stranded = now
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(victim.start)
            figures["Redis killed" if victim is redis else "a process killed"] += 1
            again.append(await all_talk(people, tasks))
        across = sum(1 for p in people if p.partner and people[p.partner[0]].home is not p.home)
        print(
            f"chat: {', '.join(f'{count} {name}' for name, count in figures.items())}; "
            f"{len(noticed)} who were stranded heard of it after {max(noticed, default=0):.1f} s "
            f"at most, all talked again after {max(again):.1f} s at most; "
            f"{across} of {PEOPLE} across processes at the end"
        )
        assert max(noticed, default=0) < 6
    finally:
        Person.lives = False
        for process in (*chats, redis):
            process.kill()


def memory(process):
    with open(f"/proc/{process.process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1])


async def slow():
    """Somebody who does not read is talked to without end, while others talk."""
    Person.lives = True
    anywhere = "tcp:0:interface=127.0.0.1"
    chat = Chat([program, "--listen", anywhere, "--lines", anywhere])
    host, port = chat.address.rsplit(":", 1)
    stuck = socket.create_connection((host, int(port)))
    stuck.sendall(
        b"GET /talk HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert b"101" in stuck.recv(4096)
    url = f"ws://{chat.address}/talk"
    try:
        async with websockets.connect(url) as talker:
            while json.loads(await talker.recv())["type"] != "paired":
                pass
            people = [Person(number, chat) for number in range(2)]
            tasks = [asyncio.create_task(person.live()) for person in people]
            await all_talk(people, tasks)
            before, slowest, sent = memory(chat), 0, 0
            word = json.dumps({"type": "say", "text": "x" * 900})
            for _ in range(20):
                for _ in range(1_000):
                    await talker.send(word)
                    sent += 1
                slowest = max(slowest, await all_talk(people, tasks))
            grown = memory(chat) - before
            print(
                f"chat: {sent * 900 // 1_000_000} MB to somebody who does not read: {grown} KiB "
                f"more memory; two others waited {slowest:.2f} s at most for three words"
            )
            assert grown < 16 * 1024, grown
            assert slowest < 5, slowest
    finally:
        Person.lives = False
        chat.kill()


asyncio.run(kills())
asyncio.run(slow())
