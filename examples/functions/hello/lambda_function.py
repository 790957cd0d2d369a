"""The smallest function worth keeping warm: the standard library and a table of its own.

Shows what sleep saves where there is little but the interpreter.
"""

import hashlib
import json

TABLE = {f"key-{i}": [i, str(i) * 3, {"square": i * i}] for i in range(20_000)}


def lambda_handler(event, context):
    """`{"n": k}`: hash of some rows. `{"verify": true}`: hash of all of them."""
    if event.get("verify"):
        return {"sha256": _sha256(TABLE)}
    n = int(event.get("n", 0))
    rows = {f"key-{(n * 37 + i) % len(TABLE)}": TABLE[f"key-{(n * 37 + i) % len(TABLE)}"] for i in range(200)}
    return {"n": n, "answer": _sha256(rows)}


def _sha256(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
