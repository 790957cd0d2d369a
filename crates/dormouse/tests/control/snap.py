"""SnapStart: a published version is initialised, runs the hooks that `snapshot_restore_py` keeps, and sleeps, before
anybody calls; after that sleep its other hooks run, once, and then it is called. `argv[2]`: the operator's socket."""

import http.client
import json
import socket
import sys
import time

from common import ask, client, create, package, same

CODE = """
import os, time
from snapshot_restore_py import register_after_restore, register_before_snapshot

said = [f"init {os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']}"]
register_before_snapshot(lambda: said.append("first before"))
register_before_snapshot(lambda word: said.append(f"second {word}"), "before")
register_after_restore(lambda: said.append(f"first after, {time.time() > 0}"))
register_after_restore(lambda word: said.append(f"second {word}"), "after")

def lambda_handler(event, context):
    said.append(f"called {event}")
    return said
"""
FAILS = """
from snapshot_restore_py import register_after_restore

@register_after_restore
def broken():
    raise ValueError("not restored")

def lambda_handler(event, context):
    return "called all the same"
"""


class Operator(http.client.HTTPConnection):
    """The operator's door."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[2])


def sandboxes():
    """All there are, by state."""
    door = Operator("localhost")
    door.request("GET", "/v1/sandboxes")
    return [(sandbox["state"], sandbox["sleeps"], sandbox["wakes"]) for sandbox in json.loads(door.getresponse().read())]


def until(states):
    """Waits until they are these."""
    for _ in range(3000):
        if sandboxes() == states:
            return
        time.sleep(0.02)
    raise AssertionError(f"{sandboxes()} are not {states}")


made = create(client, "s", package(CODE), SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=30)
same(made["SnapStart"], {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"})
same(sandboxes(), [])  # Snapshots are made of published versions.
published = client.publish_version(FunctionName="s")
same(published["SnapStart"]["OptimizationStatus"], "On")
client.get_waiter("published_version_active").wait(FunctionName="s", Qualifier="1")
until([("dedup", 1, 0)])
before = ["init snap-start", "second before", "first before"]
after = before + ["first after, True", "second after"]
# Hooks before the snapshot run last in, first out, those after it in order, as AWS defines it.
same(ask(client, "s", 1, Qualifier="1"), after + ["called 1"])
same(ask(client, "s", 2, Qualifier="1"), after + ["called 1", "called 2"])
same(ask(client, "s", 3)[0], "init on-demand")
client.delete_function(FunctionName="s")
until([])

# Who cannot be restored is not called.
create(client, "broken", package(FAILS), SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=30, Publish=True)
until([("dedup", 1, 0)])
answer = client.invoke(FunctionName="broken", Qualifier="1")
said = json.loads(answer["Payload"].read())
same((answer["StatusCode"], answer.get("FunctionError")), (200, "Unhandled"))
assert "not restored" in said["errorMessage"], said
