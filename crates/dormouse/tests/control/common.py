"""What the scenarios share: a client, packages, and words for what must not be."""

import io
import json
import os
import sys
import urllib.parse
import urllib.request
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/lambda"


def connect(endpoint):
    """A client that tells every failure, and answers before the test gives up."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
    return boto3.client("lambda", endpoint_url=endpoint, region_name="us-east-1", config=config,
                        aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "x"),
                        aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "x"))


def package(code, **files):
    """A zip with this `lambda_function.py`, and these files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lambda_function.py", code)
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def answering(text):
    """A function that says this, and what it knows of itself."""
    return package(
        "import os\n"
        "def lambda_handler(event, context):\n"
        f"    return {{'says': {text!r}, 'event': event, 'key': os.environ.get('KEY'),\n"
        "            'version': context.function_version, 'arn': context.invoked_function_arn,\n"
        "            'memory': context.memory_limit_in_mb}\n"
    )


def native(program, says):
    """A zip with this program as its `bootstrap`, and a file with this text."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(program, "bootstrap")
        archive.writestr("says", says)
    return packed.getvalue()


def create(client, name, code, **more):
    """Makes a function as most people do."""
    settings = {"Runtime": "python3.12", "Handler": "lambda_function.lambda_handler", "Role": ROLE}
    return client.create_function(FunctionName=name, Code={"ZipFile": code}, **{**settings, **more})


def ask(client, name, event=None, **more):
    """What a function answers."""
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event), **more)
    said = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said


def at_url(url, path="", data=None, headers=None):
    """What plain HTTP finds at a function URL. No name server has to know its host."""
    host = urllib.parse.urlsplit(url).netloc
    asked = urllib.request.Request(f"{sys.argv[1]}/{path}", data, {**(headers or {}), "Host": host})
    return urllib.request.urlopen(asked, timeout=60)


def refused(kind, status, call, /, **arguments):
    """The call fails with this error; returns its message."""
    try:
        answer = call(**arguments)
    except ClientError as error:
        found = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert found == (kind, status), (found, error)
        assert type(error).__name__ == kind or kind in ("ValidationException", "SerializationException"), type(error)
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call.__name__} was not refused: {answer}")


def same(found, expected):
    """They are equal."""
    assert found == expected, f"{found!r} is not {expected!r}"


client = connect(sys.argv[1])
