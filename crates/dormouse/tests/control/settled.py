"""What was configured, of every kind. `argv[2]`: `make` it, and write down all that can be read of it; `same`: it reads
as it was written down, and it is in force; `lost`: the same, but the function of that name has lost its package."""

import json
import pathlib
import re
import sys
import time

from common import answering, ask, at_url, client, create, package, refused, same

WRITTEN = pathlib.Path("settled.json")

# Waits for a door, and leaves a mark that it went through.
LOST = ("import os, time\n"
        "def lambda_handler(event, context):\n"
        "    open(event['came'], 'a').write('x')\n"
        "    while not os.path.exists(event['door']): time.sleep(0.01)\n"
        "    open(event['went'], 'a').write('x')\n")


def make():
    """A function with everything, and one to lose."""
    create(client, "f", answering("one"), Description="all", Tags={"team": "a"}, Timeout=9, MemorySize=256,
           Environment={"Variables": {"KEY": "value"}}, Publish=True)
    client.update_function_code(FunctionName="f", ZipFile=answering("two"))
    client.publish_version(FunctionName="f", Description="the second")
    client.update_function_code(FunctionName="f", ZipFile=answering("latest"))
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1", Description="both",
                        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    client.create_function_url_config(FunctionName="f", AuthType="NONE", Cors={"AllowOrigins": ["https://a.example"]})
    client.create_function_url_config(FunctionName="f", Qualifier="live", AuthType="AWS_IAM",
                                      InvokeMode="RESPONSE_STREAM")
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=3)
    client.put_provisioned_concurrency_config(FunctionName="f", Qualifier="2", ProvisionedConcurrentExecutions=1)
    client.add_permission(FunctionName="f", StatementId="all", Action="lambda:InvokeFunction", Principal="*")
    client.add_permission(FunctionName="f", Qualifier="live", StatementId="s3", Action="lambda:InvokeFunction",
                          Principal="s3.amazonaws.com", SourceAccount="123456789012")
    lost = create(client, "lost", package(LOST), Timeout=100)
    client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=1, MaximumEventAgeInSeconds=600,
                                            DestinationConfig={"OnFailure": {"Destination": lost["FunctionArn"]}})
    client.put_function_event_invoke_config(FunctionName="f", Qualifier="live", MaximumRetryAttempts=0)
    client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")
    client.update_function_configuration(FunctionName="lost", DeadLetterConfig={"TargetArn": "arn:aws:lambda:us-east-1:"
                                                                                "000000000000:function:f"})


def read():
    """All that can be read of it."""
    calls = [client.get_function, client.get_policy, client.get_function_concurrency, client.get_function_url_config,
             client.list_versions_by_function, client.list_aliases, client.list_function_url_configs,
             client.list_provisioned_concurrency_configs, client.list_function_event_invoke_configs,
             client.get_function_recursion_config, client.get_runtime_management_config]
    said = {call.__name__: call(FunctionName="f") for call in calls}
    said["policy of live"] = client.get_policy(FunctionName="f", Qualifier="live")
    said["lost"] = client.get_function(FunctionName="lost")
    said["functions"] = client.list_functions(FunctionVersion="ALL")
    said["account"] = client.get_account_settings()["AccountLimit"]
    for answer in said.values():
        answer.pop("ResponseMetadata", None)
    # Where the server listens is not kept.
    return json.loads(re.sub(r"(localhost|127\.0\.0\.1):\d+", "here", json.dumps(said, default=str, sort_keys=True)))


def without_its_loss(found):
    """The same as if the function had its package. That it lacks one is told wherever it is shown."""
    shown = [one for one in found["functions"]["Functions"] if one["FunctionName"] == "lost"]
    for one in [found["lost"]["Configuration"], *shown]:
        same((one["State"], one.pop("StateReasonCode")), ("Failed", "InternalError"))
        assert "is not there" in one.pop("StateReason")
        one["State"] = "Active"
    return found


def provisioned():
    """Waits until what is provisioned is ready: a server that has just started makes it anew."""
    for _ in range(600):
        found = client.get_provisioned_concurrency_config(FunctionName="f", Qualifier="2")
        if found["Status"] == "READY":
            same(found["AvailableProvisionedConcurrentExecutions"], 1)
            return
        time.sleep(0.05)
    raise AssertionError(found)


def in_force():
    """It is not only remembered."""
    provisioned()
    for qualifier, says in (("1", "one"), ("2", "two"), ("$LATEST", "latest")):
        said = ask(client, "f", Qualifier=qualifier)
        same((said["says"], said["key"], said["memory"]), (says, "value", "256"))
    same({ask(client, "f", Qualifier="live")["says"] for _ in range(50)}, {"one", "two"})
    url = client.get_function_url_config(FunctionName="f")["FunctionUrl"]
    with at_url(url, "", None, {"Origin": "http://localhost"}) as answer:
        same(json.loads(answer.read())["says"], "latest")
    refused("ResourceConflictException", 409, client.create_alias, FunctionName="f", Name="live", FunctionVersion="1")
    refused("InvalidParameterValueException", 400, client.put_provisioned_concurrency_config, FunctionName="f",
            Qualifier="1", ProvisionedConcurrentExecutions=3)


if sys.argv[2] == "make":
    make()
    provisioned()
    WRITTEN.write_text(json.dumps(read()))
else:
    provisioned()
    found, written = read(), json.loads(WRITTEN.read_text())
    if sys.argv[2] == "lost":
        found = without_its_loss(found)
    for key, value in written.items():
        same(found[key], value)
if sys.argv[2] == "lost":
    for kind in ("RequestResponse", "Event", "DryRun"):
        said = refused("ResourceConflictException", 409, client.invoke, FunctionName="lost", InvocationType=kind)
        assert "state: Failed" in said and "is not there" in said, said
in_force()
