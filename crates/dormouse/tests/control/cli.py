"""The aws CLI does all that this server can, on a server that asks for keys, and what it says of errors. Standard
input: the document of `dormouse openapi`. An operation in it that is not done here fails the scenario.

Each call is the program that pip installs, in a process of its own; the half second that it takes to load its modules
is spent once, for all of them. It has no command for `InvokeWithResponseStream`: none for answers that come in pieces."""

import base64
import json
import os
import pathlib
import shlex
import sys
import tempfile
import time

import awscli.clidriver
import botocore.session
from botocore import xform_name

from common import ROLE, package, same

ENDPOINT = sys.argv[1]
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
WITHOUT_COMMAND = {"InvokeWithResponseStream"}
AT_ONCE_MAX = 8
SERVICE_SAYS_NO = 255
WRONG_USE = 2

MODEL = botocore.session.get_session().get_service_model("lambda")
OPERATIONS = {operation["operationId"] for path in json.load(sys.stdin)["paths"].values() for operation in path.values()}
BY_COMMAND = {xform_name(name, "-"): name for name in OPERATIONS}
done = set()
os.environ["AWS_MAX_ATTEMPTS"] = "1"  # Every refusal is told, also those after which clients try again.


class Aws:
    """One call that has begun, with these variables beside the usual ones."""

    def __init__(self, line, **variables):
        self.line = line
        self.words = shlex.split(line)
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(variables)
            os._exit(self.run())

    def run(self):
        """What the program does as a process."""
        os.dup2(self.out.fileno(), 1)
        os.dup2(self.err.fileno(), 2)
        sys.argv = ["aws", "--endpoint-url", ENDPOINT, "--region", "us-east-1", "--output", "json", "lambda", *self.words]
        try:
            code = awscli.clidriver.main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    def end(self):
        """How it ended: its code, and what it wrote."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said = []
        for file in (self.out, self.err):
            file.seek(0)
            said.append(file.read())
            file.close()
        return code, *said

    def answer(self):
        """What it says, if it goes well."""
        code, out, err = self.end()
        same((self.line, code, err), (self.line, 0, ""))
        done.add(BY_COMMAND.get(self.words[0]))
        return json.loads(out) if out else None

    def refusal(self, what, code=SERVICE_SAYS_NO):
        """It fails with this."""
        found, out, err = self.end()
        assert found == code and what in err and not out, (self.line, found, out, err)


def in_groups(calls, end):
    """No more at once than a machine likes."""
    ended = []
    for begin in range(0, len(calls), AT_ONCE_MAX):
        begun = [Aws(line) for line in calls[begin:begin + AT_ONCE_MAX]]
        ended += [end(call) for call in begun]
    return ended


def aws(*lines):
    """Answers of calls that do not depend on each other; of one, its answer."""
    answers = in_groups(lines, Aws.answer)
    return answers if len(lines) > 1 else answers[0]


def all_refused(kind, *lines):
    """Each of these calls fails with this error of the service."""
    in_groups(lines, lambda call: call.refusal(f"({kind})"))


def until(line, is_so):
    """Calls until the answer is such."""
    for _ in range(100):
        if is_so(answer := aws(line)):
            return answer
        time.sleep(0.1)
    raise AssertionError(f"never: {line}: {answer}")


def written(name):
    """What a call has written to a file."""
    return json.loads(pathlib.Path(name).read_text() or "null")


ECHO = ("import os\n"
        "kept = None\n"
        "def lambda_handler(event, context):\n"
        "    global kept\n"
        "    if event == 'raise': raise ValueError('so it is')\n"
        "    if event == 'kept': return kept\n"
        "    kept = event\n"
        "    print('it was here')\n"
        "    client = context.client_context\n"
        "    return {'event': event, 'custom': client.custom if client else None, 'key': os.environ.get('KEY'),\n"
        "            'version': context.function_version}\n")
pathlib.Path("f.zip").write_bytes(package(ECHO))
pathlib.Path("g.zip").write_bytes(package(ECHO, more="more"))
pathlib.Path("no.zip").write_bytes(package(ECHO, **{"../outside": "no"}))
pathlib.Path("big.json").write_text(json.dumps("x" * 7_000_000))
MADE_OF = f"--runtime python3.12 --handler lambda_function.lambda_handler --role {ROLE} --timeout 20 --zip-file"

# Made, and waited for, also by who is there before it is.
late = Aws("wait function-exists --function-name late")
made, *_ = aws(f"create-function --function-name f {MADE_OF} fileb://f.zip --publish --tags team=a "
               "--environment Variables={KEY=value} --memory-size 256",
               f"create-function --function-name g {MADE_OF} fileb://f.zip",
               f"create-function --function-name late {MADE_OF} fileb://f.zip")
late.answer()
same((made["Version"], made["State"], made["MemorySize"]), ("1", "Active", 256))
waits = ["function-exists", "function-active", "function-active-v2", "function-updated", "function-updated-v2"]
aws(*[f"wait {wait} --function-name f" for wait in waits],
    "wait published-version-active --function-name f --qualifier 1")
Aws("wait function-active-v2 --function-name none").refusal("ResourceNotFoundException")

# Shown, and listed in pages.
shown, configured, listed, first, one_by_one, settings = aws(
    "get-function --function-name f", f"get-function-configuration --function-name {ARN}f --qualifier 1",
    "list-functions", "list-functions --max-items 1", "list-functions --page-size 1", "get-account-settings")
same((shown["Tags"], shown["Configuration"]["CodeSha256"]), ({"team": "a"}, made["CodeSha256"]))
same((configured["Version"], configured["Environment"]), ("1", {"Variables": {"KEY": "value"}}))
names = [function["FunctionName"] for function in listed["Functions"]]
same(names, ["f", "folder", "g", "late"])
same([function["FunctionName"] for function in one_by_one["Functions"]], names)
same([function["FunctionName"] for function in first["Functions"]], names[:1])
rest, all_versions = aws(f"list-functions --starting-token {first['NextToken']}",
                         "list-functions --function-version ALL --query Functions[].Version")
same([function["FunctionName"] for function in rest["Functions"]], names[1:])
same(sorted(all_versions), ["$LATEST"] * 4 + ["1"])
same(settings["AccountLimit"]["ConcurrentExecutions"], 1000)

# Changed: code, configuration, versions, aliases.
aws("update-function-code --function-name f --zip-file fileb://g.zip")
changed = aws("update-function-configuration --function-name f --timeout 9 --environment Variables={KEY=new}")
same((changed["Timeout"], changed["CodeSha256"] == made["CodeSha256"]), (9, False))
same(aws("publish-version --function-name f --description second")["Version"], "2")
aws(*[f"create-alias --function-name f --name {name} --function-version {version}"
      for name, version in (("live", 1), ("next", 2), ("gone", 1))])
versions, paged, aliases, alias = aws(
    "list-versions-by-function --function-name f", "list-versions-by-function --function-name f --page-size 1",
    "list-aliases --function-name f --page-size 1 --query Aliases[].Name", "get-alias --function-name f --name live")
same([version["Version"] for version in versions["Versions"]], ["$LATEST", "1", "2"])
same((paged, sorted(aliases), alias["FunctionVersion"]), (versions, ["gone", "live", "next"], "1"))
aws("update-alias --function-name f --name next --routing-config AdditionalVersionWeights={1=0.5}",
    "delete-alias --function-name f --name gone")

# Invoked in all ways. What the function fails with is no failure of the call.
context = base64.b64encode(b'{"custom": {"k": "v"}}').decode()
plain, tail, event, dry, old, failed, empty = aws(
    f"invoke --function-name f --payload '{{\"n\": 1}}' --client-context {context} plain.json",
    "invoke --function-name f --invocation-type RequestResponse --log-type Tail --payload 1 tail.json",
    "invoke --function-name g --invocation-type Event --payload '\"sent\"' event.json",
    "invoke --function-name f --invocation-type DryRun dry.json",
    "invoke --function-name f:live --payload 2 old.json",
    "invoke --function-name f --qualifier 2 --payload '\"raise\"' failed.json",
    f"invoke --function-name {ARN}f empty.json")
same((plain["StatusCode"], plain["ExecutedVersion"]), (200, "$LATEST"))
same(written("plain.json"), {"event": {"n": 1}, "custom": {"k": "v"}, "key": "new", "version": "$LATEST"})
log = base64.b64decode(tail["LogResult"]).decode()
assert "it was here" in log and "END RequestId" in log, log
same((event["StatusCode"], dry["StatusCode"], old["ExecutedVersion"]), (202, 204, "1"))
same((written("old.json")["key"], written("empty.json")["event"]), ("value", {}))
same((failed["FunctionError"], written("failed.json")["errorMessage"]), ("Unhandled", "so it is"))
until("invoke --function-name g --payload '\"kept\"' kept.json", lambda _: written("kept.json") == "sent")

# Limits, permissions, addresses, events, tags, and what tools ask for.
aws("put-function-concurrency --function-name g --reserved-concurrent-executions 0",
    "put-provisioned-concurrency-config --function-name f --qualifier live --provisioned-concurrent-executions 1",
    "add-permission --function-name f --statement-id s3 --action lambda:InvokeFunction --principal s3.amazonaws.com",
    "create-function-url-config --function-name f --auth-type AWS_IAM --cors AllowOrigins=https://a.example",
    f"put-function-event-invoke-config --function-name f --maximum-retry-attempts 1 --destination-config "
    f"OnFailure={{Destination={ARN}late}}",
    f"tag-resource --resource {ARN}f --tags stage=test", "put-function-recursion-config --function-name f --recursive-loop Allow")
all_refused("TooManyRequestsException", "invoke --function-name g no.json")
until("get-provisioned-concurrency-config --function-name f --qualifier live", lambda said: said["Status"] == "READY")
aws("update-function-url-config --function-name f --auth-type NONE",
    "update-function-event-invoke-config --function-name f --maximum-event-age-in-seconds 60")
reserved, provisioned, policy, url, urls, events, all_events, tags, signing, management, recursion = aws(
    "get-function-concurrency --function-name g", "list-provisioned-concurrency-configs --function-name f",
    "get-policy --function-name f", "get-function-url-config --function-name f",
    "list-function-url-configs --function-name f", "get-function-event-invoke-config --function-name f",
    "list-function-event-invoke-configs --function-name f", f"list-tags --resource {ARN}f",
    "get-function-code-signing-config --function-name f", "get-runtime-management-config --function-name f",
    "get-function-recursion-config --function-name f")
same(reserved, {"ReservedConcurrentExecutions": 0})
same([one["FunctionArn"] for one in provisioned["ProvisionedConcurrencyConfigs"]], [f"{ARN}f:live"])
same([one["Sid"] for one in json.loads(policy["Policy"])["Statement"]], ["s3"])
same((url["AuthType"], url["Cors"]["AllowOrigins"]), ("NONE", ["https://a.example"]))
same((len(urls["FunctionUrlConfigs"]), len(all_events["FunctionEventInvokeConfigs"])), (1, 1))
same((events["MaximumRetryAttempts"], events["MaximumEventAgeInSeconds"]), (1, 60))
same((tags["Tags"], signing["CodeSigningConfigArn"]), ({"team": "a", "stage": "test"}, ""))
same((management["UpdateRuntimeOn"], recursion["RecursiveLoop"]), ("Auto", "Allow"))

# What cannot be. All that names a function says if there is none.
NEEDED = {"Qualifier": "1", "Name": "live", "FunctionVersion": "1", "StatementId": "s", "Action": "lambda:InvokeFunction",
          "Principal": "*", "AuthType": "NONE", "ReservedConcurrentExecutions": "1",
          "ProvisionedConcurrentExecutions": "1", "RecursiveLoop": "Allow", "FunctionName": "none"}


def of_none(command, operation):
    """A call for a function that is not there."""
    shape = MODEL.operation_model(operation).input_shape
    options = [f"--{xform_name(member, '-')} {NEEDED[member]}" for member in shape.required_members]
    more = {"Invoke": "out.json", "UpdateFunctionCode": "--zip-file fileb://f.zip"}.get(operation, "")
    return f"{command} {' '.join(options)} {more}"


def names_a_function(operation):
    shape = MODEL.operation_model(operation).input_shape
    return "FunctionName" in shape.required_members and operation != "CreateFunction"


all_refused("ResourceNotFoundException", f"list-tags --resource {ARN}none", "get-function --function-name f:9",
            *[of_none(command, operation) for command, operation in sorted(BY_COMMAND.items())
              if operation not in WITHOUT_COMMAND and names_a_function(operation)])
all_refused("ResourceConflictException", f"create-function --function-name f {MADE_OF} fileb://f.zip",
            "create-alias --function-name f --name live --function-version 1",
            "delete-function --function-name f --qualifier 1", "delete-function --function-name folder")
all_refused("InvalidParameterValueException", f"create-function --function-name x {MADE_OF} fileb://no.zip",
            f"create-function --function-name x {MADE_OF} fileb://f.zip --runtime cobol",
            "put-function-concurrency --function-name f --reserved-concurrent-executions 901",
            "put-function-event-invoke-config --function-name f --destination-config OnFailure={Destination=file:///x}")
all_refused("PreconditionFailedException", "publish-version --function-name f --revision-id guessed",
            "update-function-configuration --function-name f --timeout 8 --revision-id guessed")
all_refused("ValidationException", "update-function-configuration --function-name f --memory-size 20000",
            "create-alias --function-name f --name 7 --function-version 1")
all_refused("InvalidRequestContentException", "invoke --function-name f --payload { out.json")
all_refused("RequestTooLargeException", "invoke --function-name f --payload file://big.json out.json",
            "invoke --function-name f --payload file://big.json --invocation-type Event out.json")
all_refused("UnknownOperationException", "list-layers")
all_refused("MissingAuthenticationTokenException", "list-functions --no-sign-request")
Aws("list-functions", AWS_SECRET_ACCESS_KEY="guessed").refusal("(InvalidSignatureException)")
Aws("list-functions", AWS_ACCESS_KEY_ID="guessed").refusal("(UnrecognizedClientException)")
Aws("get-function").refusal("--function-name", WRONG_USE)
Aws("invoke-with-response-stream --function-name f").refusal("Invalid choice", WRONG_USE)

# Removed, from the leaves on.
aws("delete-function-concurrency --function-name g",
    "delete-provisioned-concurrency-config --function-name f --qualifier live",
    "remove-permission --function-name f --statement-id s3", "delete-function-url-config --function-name f",
    "delete-function-event-invoke-config --function-name f", f"untag-resource --resource {ARN}f --tag-keys team stage")
all_refused("ResourceNotFoundException", "get-policy --function-name f", "get-function-url-config --function-name f",
            "get-function-event-invoke-config --function-name f")
all_refused("ProvisionedConcurrencyConfigNotFoundException",
            "get-provisioned-concurrency-config --function-name f --qualifier live")
aws(*[f"delete-function --function-name {name}" for name in ("f", "g", "late")])
same(aws("list-functions --query Functions[].FunctionName"), ["folder"])

same(sorted(OPERATIONS - WITHOUT_COMMAND - done), [])
