"""Function URLs, called by everybody and by those who sign, on a server that asks for keys; and what boto3 waits for.
The key is in the variables that Amazon's clients read."""

import json
import os
import urllib.error

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common import answering, ask, at_url, client, create, package, refused, same

TELLS = ("def lambda_handler(event, context):\n"
         "    http = event['requestContext']['http']\n"
         "    return {'method': http['method'], 'path': event['rawPath'], 'query': event['rawQueryString'],\n"
         "            'body': event.get('body'), 'version': context.function_version,\n"
         "            'by': event['requestContext'].get('authorizer')}\n")
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]

# What boto3 waits for is there at once.
create(client, "f", package(TELLS))
client.get_waiter("function_exists").wait(FunctionName="f")
client.get_waiter("function_active_v2").wait(FunctionName="f")
client.update_function_configuration(FunctionName="f", Timeout=9)
client.get_waiter("function_updated").wait(FunctionName="f")
client.get_waiter("function_updated_v2").wait(FunctionName="f")
client.publish_version(FunctionName="f")
client.get_waiter("published_version_active").wait(FunctionName="f", Qualifier="1")
client.update_function_code(FunctionName="f", ZipFile=answering("latest"))
client.get_waiter("function_updated_v2").wait(FunctionName="f")
client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")


def asked(url, path, data=None, headers=None):
    """What the function says at this path."""
    with at_url(url, path, data, headers) as answer:
        same(answer.status, 200)
        return json.loads(answer.read())


def denied(url, path, data=None, headers=None):
    """Nobody is let in."""
    try:
        at_url(url, path, data, headers)
    except urllib.error.HTTPError as error:
        same(error.code, 403)
        return
    raise AssertionError(f"{path} was let in")


def signed(url, path, data=None, secret=SECRET):
    """The headers of a signed request."""
    request = AWSRequest("POST" if data else "GET", url + path, data=data)
    SigV4Auth(Credentials(KEY, secret), "lambda", "us-east-1").add_auth(request)
    return dict(request.headers.items())


def presigned(url, path):
    """The path with a signature that holds a minute."""
    request = AWSRequest("GET", url + path)
    SigV4QueryAuth(Credentials(KEY, SECRET), "lambda", "us-east-1", expires=60).add_auth(request)
    return request.url[len(url):]


# Everybody may call one without authentication, though all else asks for a key.
url = client.create_function_url_config(FunctionName="f", Qualifier="live", AuthType="NONE")["FunctionUrl"]
told = asked(url, "a%20path?x=1&y=2")
same(told, {"method": "GET", "path": "/a%20path", "query": "x=1&y=2", "body": None, "version": "1", "by": None})
same(asked(url, "", b'{"n": 1}', {"Content-Type": "application/json"})["body"], '{"n": 1}')
try:
    at_url(url.replace(url.split("//")[1].split(".")[0], "none"))
    raise AssertionError("there is no such URL")
except urllib.error.HTTPError as error:
    same(error.code, 404)

# Only who signs may call one with.
client.update_function_url_config(FunctionName="f", Qualifier="live", AuthType="AWS_IAM")
denied(url, "")
told = asked(url, "a%20path?x=1", None, signed(url, "a%20path?x=1"))
same((told["path"], told["by"]["iam"]["accessKey"]), ("/a%20path", KEY))
same(told["by"]["iam"]["userArn"], f"arn:aws:iam::000000000000:user/{KEY}")
same(asked(url, "", b"body", {**signed(url, "", b"body"), "Content-Type": "text/plain"})["body"], "body")
denied(url, "", b"another", signed(url, "", b"body"))
denied(url, "b", None, signed(url, "a"))
denied(url, "", None, signed(url, "", secret="guessed"))
same(asked(url, presigned(url, "once?x=1"))["path"], "/once")
denied(url, presigned(url, "once?x=1").replace("x=1", "x=2"))

# It is the same URL again for everybody, until it is removed.
client.update_function_url_config(FunctionName="f", Qualifier="live", AuthType="NONE")
same(asked(url, "x")["path"], "/x")
client.delete_function_url_config(FunctionName="f", Qualifier="live")
refused("ResourceNotFoundException", 404, client.get_function_url_config, FunctionName="f", Qualifier="live")
same(ask(client, "f")["says"], "latest")
