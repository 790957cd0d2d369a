"""What boto3 finds when it calls functions from folders. `f` has one sandbox, and nobody may wait for it."""

import base64
import json
import pathlib
import time

from common import ask, client, refused, same

FOUND = "arn:aws:lambda:us-east-1:000000000000:function:"
DOOR, SIGN = pathlib.Path("door").resolve(), pathlib.Path("sign").resolve()


def called(**arguments):
    """Status, error, version and payload of an answer."""
    answer = client.invoke(FunctionName="f", **arguments)
    return (answer["StatusCode"], answer.get("FunctionError"), answer.get("ExecutedVersion"),
            json.loads(answer["Payload"].read() or "null"))


def until(what, done):
    """Waits for it."""
    for _ in range(3000):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


same(called(Payload='{"a": 1}'), (200, None, "$LATEST", {"event": {"a": 1}, "custom": None}))
same(ask(client, FOUND + "f", {}, Qualifier="$LATEST"), {"event": {}, "custom": None})
same(called(), (200, None, "$LATEST", {"event": {}, "custom": None}))  # No payload is an empty event.
context = base64.b64encode(b'{"custom": {"k": "v"}}').decode()
same(ask(client, "f", {}, ClientContext=context), {"event": {}, "custom": {"k": "v"}})
status, error, version, payload = called(Payload='{"raise": true}')
same((status, error, version), (200, "Unhandled", "$LATEST"))
same((payload["errorType"], payload["errorMessage"]), ("ValueError", "so it is"))
same(called(InvocationType="DryRun"), (204, None, None, None))
same([function["FunctionName"] for function in client.list_functions()["Functions"]], ["f", "g"])

missing = refused("ResourceNotFoundException", 404, client.invoke, FunctionName="none", Payload="{}")
same(missing, f"Function not found: {FOUND}none")
refused("ResourceNotFoundException", 404, client.invoke, FunctionName="f", Qualifier="7", Payload="{}")
refused("InvalidRequestContentException", 400, client.invoke, FunctionName="f", Payload="{")

# An event is taken at once and handled later; who comes meanwhile is refused, as nobody may wait.
event = json.dumps({"wait_for": str(DOOR), "write": str(SIGN)})
same(client.invoke(FunctionName="f", InvocationType="Event", Payload=event)["StatusCode"], 202)
until("the event is being handled", SIGN.exists)
refused("TooManyRequestsException", 429, client.invoke, FunctionName="f", Payload="{}")
DOOR.touch()


def is_free():
    try:
        return ask(client, "f", {}) is not None
    except client.exceptions.TooManyRequestsException:
        return False


until("the event is handled", is_free)
