"""People who use the chat: strangers.py SCENARIO [ARGUMENT ...]. Fails if something goes wrong."""
import asyncio
import json
import os
import signal
import sys
import time

import websockets

PATIENCE = 20


class Browser:
    def __init__(self, url):
        self.url = url

    async def __aenter__(self):
        self.socket = await websockets.connect(self.url.replace("http", "ws") + "/talk")
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def hears(self, *events, patience=PATIENCE):
        """Expects these events: types, or texts that are said."""
        for expected in events:
            event = json.loads(await asyncio.wait_for(self.socket.recv(), patience))
            heard = event["text"] if event["type"] == "said" else event["type"]
            assert heard == expected, f"{expected} was expected, not {event}"

    async def act(self, kind, **rest):
        await self.socket.send(json.dumps({"type": kind, **rest}))

    async def say(self, text):
        await self.act("say", text=text)


class Telnet:
    """The program telnet, which comes with its own messages first."""

    def __init__(self, address):
        self.host, self.port = address.rsplit(":", 1)

    async def __aenter__(self):
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            "telnet", self.host, self.port, stdin=pipe, stdout=pipe)
        while not (await self.line()).startswith("* /next"):
            pass
        return self

    async def __aexit__(self, *_):
        self.process.kill()
        await self.process.wait()

    async def line(self):
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        assert line, "telnet has ended"
        return line.decode().rstrip()

    async def hears(self, *lines):
        for expected in lines:
            line = await self.line()
            assert line == expected, f"{expected!r} was expected, not {line!r}"

    async def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        await self.process.stdin.drain()


async def talk(url, lines):
    async with Telnet(lines) as old, Browser(url) as young:
        await old.hears("* waiting for a stranger", "* here is a stranger")
        await young.hears("waiting", "paired")
        await young.act("type")
        await old.hears("* the stranger is typing")
        await young.say("hello \x1b[2J ünïcode")
        await old.hears("stranger: hello  [2J ünïcode")
        await old.say("hi browser")
        await young.hears("hi browser")
        async with Browser(url) as third:
            await third.hears("waiting")
            await old.say("/next")
            await young.hears("gone")
            await third.hears("paired")
            await old.hears("* waiting for a stranger", "* here is a stranger")
            await third.say("welcome")
            await old.hears("stranger: welcome")
        await old.hears("* the stranger has gone")
        await young.act("next")
        await old.say("/next")
        await young.hears("waiting", "paired")
        await old.hears("* waiting for a stranger", "* here is a stranger")
        await young.act("sing")
        try:
            await young.hears("nothing")
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == 1003, closed
        await old.hears("* the stranger has gone")


async def refuse(url):
    """Another site's page must not talk in its user's name."""
    address = url.replace("http", "ws") + "/talk"
    try:
        await websockets.connect(address, origin="http://evil.example")
    except websockets.InvalidStatusCode as refused:
        assert refused.status_code == 403, refused
    else:
        sys.exit("a page of another site was let in")


async def crowd(count, *urls):
    """Everybody is paired with exactly one other, in whatever process that one is."""
    people = [Browser(urls[number % len(urls)]) for number in range(int(count))]
    for start in range(0, len(people), 100):
        await asyncio.gather(*[person.__aenter__() for person in people[start:start + 100]])
    await asyncio.gather(*[person.hears("waiting", "paired") for person in people])
    for number, person in enumerate(people):
        await person.say(str(number))

    async def partner(person):
        return int(json.loads(await asyncio.wait_for(person.socket.recv(), PATIENCE))["text"])

    partners = await asyncio.gather(*[partner(person) for person in people])
    assert all(partners[other] == number for number, other in enumerate(partners))
    assert all(number != other for number, other in enumerate(partners))
    across = sum(number % len(urls) != other % len(urls) for number, other in enumerate(partners))
    await asyncio.gather(*[person.__aexit__() for person in people])
    print(f"{count} people, {across} of them with a partner in another process")


async def killed(first, second, victim):
    """The process of the first dies. The second hears of it in 5 s, and finds another."""
    one, other = Browser(first), Browser(second)
    await one.__aenter__()
    await one.hears("waiting")
    async with other:
        await other.hears("waiting", "paired")
        await one.hears("paired")
        await one.say("to another process")
        await other.hears("to another process")
        await other.say("and back")
        await one.hears("and back")
        # Somebody in the list of those who wait dies too.
        async with Browser(first) as waiting:
            await waiting.hears("waiting")
            os.kill(int(victim), signal.SIGKILL)
            start = time.monotonic()
            await other.hears("gone", patience=5)
            print(f"noticed after {time.monotonic() - start:.1f} s")
        async with Browser(second) as third:
            await third.hears("waiting")
            await other.act("next")
            await other.hears("waiting", "paired")
            await third.hears("paired")


async def restarted(first, second, *commands):
    """Redis dies, and comes back when these people have noticed."""
    async with Browser(first) as one, Browser(second) as other:
        await one.hears("waiting")
        await other.hears("waiting", "paired")
        await one.hears("paired")
        # Only now: it might have been faster than the other.
        async with Browser(first) as third:
            await third.hears("waiting")
            print("kill", flush=True)
            await one.hears("gone")
            await other.hears("gone")
            await other.act("next")
            await other.hears("waiting")
            print("start", flush=True)
            # Those who wait are paired across the processes, without doing anything.
            await third.hears("paired")
            await other.hears("paired")
            await other.say("here again")
            await third.hears("here again")


scenarios = [talk, refuse, crowd, killed, restarted]
run = next(scenario for scenario in scenarios if scenario.__name__ == sys.argv[1])
asyncio.run(run(*sys.argv[2:]))
