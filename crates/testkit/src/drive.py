"""Calls a Lambda function without the Lambda API: one event in JSON a line, one result in JSON a line.

`drive.py FOLDER --socket PATH`. The function's module is imported before it says `ready`.
"""

import importlib.util
import json
import os
import socket
import sys


def handler(folder):
    """`lambda_handler` from `FOLDER/lambda_function.py`, Lambda's default name."""
    sys.path.insert(0, folder)
    path = os.path.join(folder, "lambda_function.py")
    spec = importlib.util.spec_from_file_location("lambda_function", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["lambda_function"] = module
    spec.loader.exec_module(module)
    return module.lambda_handler


def main():
    folder, _, path = sys.argv[1:4]
    call = handler(folder)
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    line.sendall(b"ready\n")
    for command in line.makefile("rb"):
        try:
            answer = json.dumps(call(json.loads(command), None), sort_keys=True)
        except Exception as error:  # The test is told; it decides.
            answer = f"error {type(error).__name__}: {error}"
        line.sendall(answer.encode() + b"\n")


main()
