"""Makes notebooks, each eight times at once: same.py URL"""
import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

base, token = sys.argv[1].split("/?token=")
headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
AT_ONCE = 8
ready = Barrier(AT_ONCE)


def make(name):
    body = json.dumps({"name": name, "kernel": "python"}).encode()
    request = urllib.request.Request(base + "/notebooks", body, headers)
    ready.wait(20)
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


with ThreadPoolExecutor(AT_ONCE) as people:
    for number in range(40):
        statuses = sorted(people.map(make, [f"n{number}"] * AT_ONCE))
        assert statuses == [201] + [409] * (AT_ONCE - 1), statuses
