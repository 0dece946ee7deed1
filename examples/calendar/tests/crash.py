"""Writes into a calendar that is killed again and again: crash.py PROGRAM DATABASE ROUNDS

After each end, what was confirmed must be there as it was, and what was not confirmed must be done
as a whole or not at all.
"""
import collections
import http.client
import random
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as xml

program, database, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
WRITERS = 6
HOME = "/dav/personal"
figures = collections.Counter()


def event(uid, text):
    return (
        f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:crash\r\nBEGIN:VEVENT\r\nUID:{uid}\r\n"
        f"DTSTAMP:20260101T000000Z\r\nDTSTART:20260105T090000Z\r\nSUMMARY:{text}\r\n"
        f"DESCRIPTION:{text * 500}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    ).encode()


class Writer:
    """Has files of its own. `now` is what was confirmed, `maybe` what one request may have made."""

    def __init__(self, number):
        self.number = number
        self.random = random.Random(number)
        self.now = {}
        self.maybe = None
        self.count = 0

    def write(self, address):
        connection = http.client.HTTPConnection(address, timeout=20)
        try:
            while True:
                self.step(connection)
        except (OSError, http.client.HTTPException):
            return

    def step(self, connection):
        self.count += 1
        file = f"{HOME}/{self.number}-{self.random.randrange(5)}.ics"
        after = dict(self.now)
        kind = self.random.random()
        headers = {}
        if kind < 0.6 or file not in after:
            uid = after[file][0] if file in after else f"{self.number}-{self.count}"
            method, body = "PUT", event(uid, f"{self.count:08}")
            headers = {"content-type": "text/calendar"}
            after[file] = (uid, body)
        elif kind < 0.8:
            method, body = "DELETE", None
            del after[file]
        else:
            method, body = "MOVE", None
            target = f"{HOME}/{self.number}-{self.random.randrange(5)}.ics"
            if target == file:
                return
            headers = {"destination": target}
            after[target] = after.pop(file)
        self.maybe = after
        connection.request(method, file, body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (201, 204), (answer.status, method, file)
        self.now, self.maybe = after, None
        figures["confirmed"] += 1


def start():
    arguments = ["--listen", "tcp:0:interface=127.0.0.1", "--database", database]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    return process, line.strip().removeprefix("http listening on ")


def stored(address):
    """Everything that is there, as a synchronization says, and as each file says."""
    connection = http.client.HTTPConnection(address, timeout=20)
    body = (
        '<sync-collection xmlns="DAV:"><sync-token/><sync-level>1</sync-level>'
        "<prop><getetag/></prop></sync-collection>"
    )
    connection.request("REPORT", HOME + "/", body)
    answer = connection.getresponse()
    tree = xml.fromstring(answer.read())
    files = {}
    for response in tree.iter("{DAV:}response"):
        path = response.find("{DAV:}href").text
        connection.request("GET", path)
        answer = connection.getresponse()
        files[path] = answer.read()
        assert answer.status == 200, (path, answer.status)
        assert answer.headers["etag"] == response.find(".//{DAV:}getetag").text
    return files


writers = [Writer(number) for number in range(WRITERS)]
process, address = start()
for _ in range(rounds):
    threads = [threading.Thread(target=writer.write, args=(address,)) for writer in writers]
    for thread in threads:
        thread.start()
    # The wait is what is random here: until some instant in the middle of the work.
    time.sleep(random.uniform(0.0, 0.15))
    process.send_signal(signal.SIGKILL)
    process.wait()
    for thread in threads:
        thread.join()
    process, address = start()
    files = stored(address)
    for writer in writers:
        mine = {path: body for path, body in files.items() if f"/{writer.number}-" in path}
        now, maybe = (
            {path: body for path, (_, body) in state.items()} if state is not None else None
            for state in (writer.now, writer.maybe)
        )
        assert mine in (now, maybe), f"{writer.number}: {sorted(mine)}, {sorted(now)}"
        if mine != now:
            writer.now = writer.maybe
            figures["done but not confirmed"] += 1
        writer.maybe = None
process.kill()
process.wait()
assert figures["confirmed"] > rounds, figures
print(f"{rounds} times killed;", ", ".join(f"{count} {name}" for name, count in figures.items()))
