"""64 customers, each of whom wants every seat: customers.py URL [PID]

Prints each seat that was confirmed, as FLIGHT|NUMBER|CUSTOMER. With PID, kills that process after
some of them, and takes each lost connection for an end. A customer who changes his mind gives the
seat back and comes again.
"""
import http.client
import json
import os
import random
import signal
import sys
import threading

address = sys.argv[1].removeprefix("http://")
victim = int(sys.argv[2]) if len(sys.argv) > 2 else None
kill_after = random.randrange(1, 120)
lock = threading.Lock()
confirmed = []
faults = []


def customer(number):
    rng = random.Random(number)
    connection = http.client.HTTPConnection(address, timeout=60)

    def ask(method, path, value=None):
        body = None if value is None else json.dumps(value)
        headers = {"content-type": "application/json"} if body else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if answer.status < 300 and text else None

    def buy(flight, seat):
        status, held = ask("POST", f"/flights/{flight}/{seat}/hold", {"customer": f"c{number}"})
        if status == 409:
            return status
        assert status == 201, status
        if rng.random() < 0.2:
            status, _ = ask("DELETE", f"/holds/{held['token']}")
            assert status == 204, status
            return buy(flight, seat)
        status, sold = ask("POST", f"/holds/{held['token']}/confirm")
        assert status == 200 and (sold["flight"], sold["number"]) == (flight, seat), (status, sold)
        with lock:
            confirmed.append(f"{flight}|{seat}|c{number}")
            if victim and len(confirmed) == kill_after:
                os.kill(victim, signal.SIGKILL)

    seats = [(flight, seat) for flight in range(1, 4) for seat in range(1, 61)]
    rng.shuffle(seats)
    try:
        for flight, seat in seats:
            buy(flight, seat)
    except (OSError, http.client.HTTPException) as error:
        if not victim:
            faults.append(f"c{number}: {error!r}")
    except Exception as error:
        faults.append(f"c{number}: {error!r}")


threads = [threading.Thread(target=customer, args=(number,)) for number in range(64)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("\n".join(confirmed))
sys.exit("\n".join(faults) or 0)
