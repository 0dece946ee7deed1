"""The operations of benches/deferred.rs in Twisted.

Prints one line for each: its name, a tab, nanoseconds.
"""

import gc
import statistics
import time

from twisted.internet.defer import Deferred, gatherResults


def increment(value):
    return value + 1


def chain(callbacks):
    """Creates a Deferred, adds callbacks, fires it and reads the result."""
    deferred = Deferred()
    for _ in range(callbacks):
        deferred.addCallback(increment)
    deferred.callback(1)
    return deferred.result


def all_of(deferreds):
    gathered = gatherResults(deferreds)
    for deferred in deferreds:
        deferred.callback(1)
    return gathered.result


def measure(name, make, run, seconds=1.0):
    """Returns the median over batches; the time of `make` is not included."""
    times = []
    gc.collect()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        inputs = [make() for _ in range(20)]
        start = time.perf_counter_ns()
        for value in inputs:
            run(value)
        times.append((time.perf_counter_ns() - start) / len(inputs))
    print(f"{name}\t{statistics.median(times):.1f}")


for callbacks in (1, 101):
    measure(f"{callbacks} callbacks", lambda: callbacks, chain)
measure("all of 1,000", lambda: [Deferred() for _ in range(1_000)], all_of)
