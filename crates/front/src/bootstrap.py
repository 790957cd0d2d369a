"""Runs a Python handler behind the AWS Lambda Runtime API, with nothing but the standard library.

Serves where `awslambdaric` is not installed. Usage: bootstrap.py MODULE.FUNCTION
"""

import http.client
import importlib
import json
import os
import socket
import sys
import time
import traceback

API = "/2018-06-01/runtime"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"


class Identity:
    """Who calls; a caller without Cognito has neither field."""

    def __init__(self, fields):
        self.cognito_identity_id = fields.get("cognitoIdentityId")
        self.cognito_identity_pool_id = fields.get("cognitoIdentityPoolId")


class Client:
    """The calling app, as the mobile SDKs describe it."""

    def __init__(self, fields):
        for name in ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"):
            setattr(self, name, fields.get(name))


class ClientContext:
    """What the caller sent in X-Amz-Client-Context."""

    def __init__(self, fields):
        self.custom = fields.get("custom")
        self.env = fields.get("env")
        self.client = Client(fields.get("client") or {})


class Context:
    """The second argument of a handler."""

    def __init__(self, headers):
        env = os.environ
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = env.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = env.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = env.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = env.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = env.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.identity = Identity(json.loads(headers.get("Lambda-Runtime-Cognito-Identity") or "{}"))
        client = headers.get("Lambda-Runtime-Client-Context")
        self.client_context = ClientContext(json.loads(client)) if client else None
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))


class Runtime:
    """One connection to the Runtime API, kept open: a sandbox sleeps in the middle of `next`."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address)
        self.connection.connect()
        # Headers and body go out in two writes; without this the second waits for the acknowledgement of the first.
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, method, path, body=None, headers=None):
        self.connection.request(method, API + path, body, headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def next(self):
        status, headers, body = self.call("GET", "/invocation/next")
        if status != 200:
            raise RuntimeError("the Runtime API said %d: %r" % (status, body))
        return headers, body

    def respond(self, request_id, body, content_type):
        path = "/invocation/%s/response" % request_id
        status, _, said = self.call("POST", path, body, {"Content-Type": content_type})
        if status == 413:  # The invocation has failed; this process has not.
            sys.stderr.write("response of %d bytes refused: %s\n" % (len(body), said.decode()))

    def fail(self, path, error):
        body = json.dumps(error).encode()
        headers = {"Content-Type": "application/json", ERROR_TYPE: error["errorType"]}
        self.call("POST", path, body, headers)


def describe(error, request_id=""):
    """The error as Lambda shapes it, without the frames of this file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": request_id,
        # Without the markers below each line, which newer Pythons add and Lambda does not show.
        "stackTrace": traceback.format_list([tuple(frame) for frame in frames]),
    }


def init_error(kind, message):
    return {"errorMessage": message, "errorType": "Runtime." + kind, "requestId": "", "stackTrace": []}


def load(name):
    """The handler that `pkg/mod.func` names, or None and why not."""
    module_name, _, function_name = name.rpartition(".")
    if not module_name:
        return None, init_error("MalformedHandlerName", "Bad handler '%s': not enough values to unpack" % name)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = "Unable to import module '%s': %s" % (module_name, error)
        return None, init_error("ImportModuleError", message)
    except SyntaxError as error:
        message = "Syntax error in module '%s': %s" % (module_name, error)
        described = init_error("UserCodeSyntaxError", message)
        described["stackTrace"] = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        return None, described
    except Exception as error:
        return None, describe(error)
    handler = getattr(module, function_name, None)
    if handler is None:
        message = "Handler '%s' missing on module '%s'" % (function_name, module_name)
        return None, init_error("HandlerNotFound", message)
    return handler, None


def log_error(error):
    lines = "".join(error["stackTrace"])
    sys.stdout.write("[ERROR] %s: %s\n%s" % (error["errorType"], error["errorMessage"], lines))


def encode(result):
    """Bytes go out as they are, all else as JSON."""
    if isinstance(result, bytes):
        return result, "application/unknown"
    try:
        return json.dumps(result, ensure_ascii=False).encode(), "application/json"
    except (TypeError, ValueError) as error:
        raise MarshalError("Unable to marshal response: %s" % error) from error


class MarshalError(Exception):
    pass


def serve(runtime, handler):
    headers, body = runtime.next()
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    trace = headers.get("Lambda-Runtime-Trace-Id")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    try:
        event = json.loads(body)
        result, content_type = encode(handler(event, Context(headers)))
    except Exception as error:
        described = describe(error, request_id)
        if isinstance(error, MarshalError):
            described["errorType"] = "Runtime.MarshalError"
        log_error(described)
        runtime.fail("/invocation/%s/error" % request_id, described)
    else:
        runtime.respond(request_id, result, content_type)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else os.environ["_HANDLER"]
    # The folder of this script stands first; the function's own shall, as on Lambda.
    sys.path[0] = os.environ.get("LAMBDA_TASK_ROOT", os.getcwd())
    sys.stdout.reconfigure(line_buffering=True)
    runtime = Runtime(os.environ["AWS_LAMBDA_RUNTIME_API"])
    handler, error = load(name)
    if error:
        log_error(error)
        runtime.fail("/init/error", error)
        sys.exit(1)
    while True:
        serve(runtime, handler)


main()
