"""Puts Amazon's shapes into the OpenAPI document of `dormouse openapi` on standard input, and prints it: what a client
library knows of each operation's parameters and bodies, with names and packages that make calls succeed now and then.
`argv[2]`: a function that is there."""

import base64
import json
import sys

import botocore.session

from common import ROLE, answering

NAMED = {
    "FunctionName": [sys.argv[2], "made", f"arn:aws:lambda:us-east-1:000000000000:function:{sys.argv[2]}", "made:live"],
    "Qualifier": ["$LATEST", "1", "live"],
    "Name": ["live", "other"],
    "FunctionVersion": ["$LATEST", "1"],
    "Role": [ROLE],
    "Runtime": ["python3.12", "provided.al2023"],
    "Handler": ["lambda_function.lambda_handler"],
    "ZipFile": [base64.b64encode(answering("made")).decode()],
    "Destination": ["made", "file:///etc/passwd"],
    "Resource": [f"arn:aws:lambda:us-east-1:000000000000:function:{sys.argv[2]}"],
    # What is provisioned is started: no more than a machine holds.
    "ProvisionedConcurrentExecutions": [0, 1],
}

MODEL = botocore.session.get_session().get_service_model("lambda")


def schema(shape, name=None, depth=0):
    """A shape of Amazon's as JSON schema; of names that matter, half of them ours."""
    own = plain(shape, depth)
    if name in NAMED:
        return {"anyOf": [{"enum": NAMED[name]}, own]}
    return own


def plain(shape, depth):
    kind = shape.type_name
    bounds = shape.metadata
    if depth > 6:
        return {}
    if kind == "structure":
        members = {name: schema(member, name, depth + 1) for name, member in shape.members.items()}
        required = [name for name in shape.required_members]
        return {"type": "object", "properties": members, **({"required": required} if required else {})}
    if kind == "list":
        return {"type": "array", "items": schema(shape.member, None, depth + 1), "maxItems": 3}
    if kind == "map":
        return {"type": "object", "additionalProperties": schema(shape.value, None, depth + 1), "maxProperties": 3}
    if kind in ("integer", "long"):
        limits = {"minimum": bounds.get("min"), "maximum": bounds.get("max")}
        return {"type": "integer", **{key: value for key, value in limits.items() if value is not None}}
    if kind in ("double", "float"):
        return {"type": "number"}
    if kind == "boolean":
        return {"type": "boolean"}
    if getattr(shape, "enum", None):
        return {"type": "string", "enum": shape.enum}
    return {"type": "string", "maxLength": min(bounds.get("max", 256), 256)}


def complete(operation):
    """Adds what the library knows; what is not in its model stays as it is."""
    name = operation["operationId"]
    if name not in MODEL.operation_names:
        return
    shape = MODEL.operation_model(name).input_shape
    body, required = {}, []
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    for member, of in shape.members.items() if shape else ():
        place = of.serialization.get("location")
        called = of.serialization.get("name", member)
        if place == "uri":
            found = parameters.get(called) or parameters.get(member)
            if found:
                found["schema"] = schema(of, member)
        elif place in ("querystring", "header"):
            kind = "query" if place == "querystring" else "header"
            operation["parameters"].append({"name": called, "in": kind, "schema": schema(of, member)})
        elif shape.serialization.get("payload") != member:
            body[member] = schema(of, member)
            required += [member] if member in shape.required_members else []
    if body and "requestBody" in operation:
        content = {"type": "object", "properties": body, **({"required": required} if required else {})}
        operation["requestBody"]["content"]["application/json"]["schema"] = content


document = json.load(sys.stdin)
for path in document["paths"].values():
    for operation in path.values():
        complete(operation)
print(json.dumps(document))
