"""A process that forks after its provider has begun, and ends well once parent and child have seen a flag go off."""

from __future__ import annotations

from typing import Final

FORK: Final = """
import os, sys, time
from reconciler.switches.features import Names
from reconciler.switches.unleash import MEANS, Unleash

url, token, flag = sys.argv[1:]
provider = Unleash(url, token, "shop", 0.1, None, MEANS._replace(names=lambda: Names({}, {})))
provider.start(lambda: None)

def wait(on):
    until = time.monotonic() + 90
    while (flag in (provider.rules() or ())) is not on:
        if time.monotonic() > until:
            os._exit(3)
        time.sleep(0.01)

wait(True)
child = os.fork()
print("child" if child == 0 else "parent", flush=True)
wait(False)
if child == 0:
    os._exit(0)
_, status = os.waitpid(child, 0)
provider.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""
