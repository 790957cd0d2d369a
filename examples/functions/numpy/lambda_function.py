"""Multiplies matrices with numpy.

Shows large blocks without pointers, and an extension module with many private copies of file pages.
"""

import hashlib

import numpy

GENERATOR = numpy.random.default_rng(1)
LEFT = GENERATOR.random((400, 400))
RIGHT = GENERATOR.random((400, 400))


def lambda_handler(event, context):
    """`{"n": k}`: trace of the product, scaled by k. `{"verify": true}`: hash of both matrices."""
    if event.get("verify"):
        return {"sha256": hashlib.sha256(LEFT.tobytes() + RIGHT.tobytes()).hexdigest()}
    n = int(event.get("n", 0))
    return {"n": n, "answer": f"{numpy.trace(LEFT @ (RIGHT * (n % 10 + 1))):.6f}"}
