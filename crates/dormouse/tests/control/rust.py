"""A function in Rust with Amazon's crate, `argv[2]`: answers, errors, panics, streams, and one that takes too long."""

import base64
import json
import sys

from common import ask, at_url, client, create, native, same

create(client, "r", native(sys.argv[2], "its own"), Runtime="provided.al2023", Handler="bootstrap", Timeout=1,
       MemorySize=256)
same(ask(client, "r", {"a": [1, 2.5, None, "ü"]}), {"a": [1, 2.5, None, "ü"]})
same(ask(client, "r", "read"), "its own")
custom = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
known = ask(client, "r", "context", ClientContext=custom)
same((known["arn"], known["name"]), ("arn:aws:lambda:us-east-1:000000000000:function:r", "r"))
same((known["version"], known["memory"], known["custom"]), ("$LATEST", 256, {"k": "v"}))


def failed(event):
    """What the failure of an invocation says."""
    answer = client.invoke(FunctionName="r", Payload=json.dumps(event))
    same((answer["StatusCode"], answer.get("FunctionError")), (200, "Unhandled"))
    return json.loads(answer["Payload"].read())


same(failed("fail")["errorMessage"], "so it is")
assert "that cannot be" in failed("panic")["errorMessage"]
same(ask(client, "r", 7), 7)  # The same process goes on after both.
assert "Task timed out after 1.00 seconds" in failed("wait")["errorMessage"]
same(ask(client, "r", 8), 8)  # Another process.


def streamed(event):
    """The pieces of a streamed answer, and how it ended."""
    stream = list(client.invoke_with_response_stream(FunctionName="r", Payload=json.dumps(event))["EventStream"])
    pieces = [part["PayloadChunk"]["Payload"] for part in stream if "PayloadChunk" in part]
    return pieces, stream[-1]["InvokeComplete"]


pieces, end = streamed("stream")
same(end.get("ErrorCode"), None)
assert len(pieces) > 1, pieces
# The crate always sends status and headers first, and eight zero bytes; URLs understand it, here it is as it came.
head, _, body = b"".join(pieces).partition(bytes(8))
same((json.loads(head)["statusCode"], body), (200, b"one two three"))
whole = client.invoke(FunctionName="r", Payload='"stream"')["Payload"].read()  # For who wants it in one piece.
same(whole.partition(bytes(8))[2], body)
pieces, end = streamed({"whole": 1})
same((b"".join(pieces), end.get("ErrorCode")), (b'{"whole":1}', None))
pieces, end = streamed("fail")
same((pieces, end["ErrorCode"].lower()), ([], "unhandled"))
same(json.loads(end["ErrorDetails"])["errorMessage"], "so it is")

client.create_function_url_config(FunctionName="r", AuthType="NONE", InvokeMode="RESPONSE_STREAM")
made = client.get_function_url_config(FunctionName="r")["FunctionUrl"]
with at_url(made, "stream") as answer:
    same((answer.status, answer.headers["content-type"], answer.read()),
         (200, "application/octet-stream", b"one two three"))
