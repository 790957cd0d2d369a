"""Versions, aliases, concurrency, policies, URLs: what tools configure beside code."""

import time

from common import answering, ask, client, create, package, refused, same

made = create(client, "f", answering("one"), Publish=True)
same((made["Version"], made["FunctionArn"][-4:]), ("1", ":f:1"))
same(client.publish_version(FunctionName="f")["Version"], "1")  # Nothing has changed.
client.update_function_code(FunctionName="f", ZipFile=answering("two"))
refused("InvalidParameterValueException", 400, client.publish_version, FunctionName="f", CodeSha256=made["CodeSha256"])
second = client.publish_version(FunctionName="f", Description="the second")
same((second["Version"], second["Description"]), ("2", "the second"))
client.get_waiter("published_version_active").wait(FunctionName="f", Qualifier="2")
client.update_function_code(FunctionName="f", ZipFile=answering("three"))

for qualifier, says in (("1", "one"), ("2", "two"), ("$LATEST", "three")):
    said = ask(client, "f", Qualifier=qualifier)
    same((said["says"], said["version"]), (says, qualifier))
    same(ask(client, f"f:{qualifier}")["says"], says)
found = client.list_versions_by_function(FunctionName="f")["Versions"]
same([version["Version"] for version in found], ["$LATEST", "1", "2"])
found = client.list_functions(FunctionVersion="ALL")["Functions"]
same([version["Version"] for version in found if version["FunctionName"] == "f"], ["$LATEST", "1", "2"])

alias = client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
same(alias["AliasArn"], "arn:aws:lambda:us-east-1:000000000000:function:f:live")
said = ask(client, "f", Qualifier="live")
same((said["says"], said["version"], said["arn"]), ("one", "1", alias["AliasArn"]))
refused("ResourceConflictException", 409, client.create_alias, FunctionName="f", Name="live", FunctionVersion="1")
refused("ResourceNotFoundException", 404, client.create_alias, FunctionName="f", Name="x", FunctionVersion="9")
refused("ValidationException", 400, client.create_alias, FunctionName="f", Name="7", FunctionVersion="1")
refused("InvalidParameterValueException", 400, client.create_alias, FunctionName="f", Name="x",
        FunctionVersion="$LATEST", RoutingConfig={"AdditionalVersionWeights": {"1": 0.5}})
moved = client.update_alias(FunctionName="f", Name="live", FunctionVersion="2", RevisionId=alias["RevisionId"],
                            RoutingConfig={"AdditionalVersionWeights": {"1": 0.5}})
same(moved["RoutingConfig"], {"AdditionalVersionWeights": {"1": 0.5}})
refused("PreconditionFailedException", 412, client.update_alias, FunctionName="f", Name="live",
        RevisionId=alias["RevisionId"])
same({ask(client, "f", Qualifier="live")["says"] for _ in range(50)}, {"one", "two"})
client.update_alias(FunctionName="f", Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
same({ask(client, "f", Qualifier="live")["says"] for _ in range(10)}, {"two"})
same([a["Name"] for a in client.list_aliases(FunctionName="f")["Aliases"]], ["live"])
same(client.list_aliases(FunctionName="f", FunctionVersion="1")["Aliases"], [])
refused("ResourceConflictException", 409, client.delete_function, FunctionName="f", Qualifier="2")
client.delete_function(FunctionName="f", Qualifier="1")
refused("ResourceNotFoundException", 404, client.invoke, FunctionName="f", Qualifier="1")
refused("ResourceNotFoundException", 404, client.get_alias, FunctionName="f", Name="none")

# Concurrency.
same(client.get_function_concurrency(FunctionName="f").get("ReservedConcurrentExecutions"), None)
client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=5)
same(client.get_function_concurrency(FunctionName="f")["ReservedConcurrentExecutions"], 5)
same(client.get_function(FunctionName="f")["Concurrency"], {"ReservedConcurrentExecutions": 5})
same(client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"], 995)
refused("InvalidParameterValueException", 400, client.put_function_concurrency, FunctionName="f",
        ReservedConcurrentExecutions=901)
client.delete_function_concurrency(FunctionName="f")
put = client.put_provisioned_concurrency_config(FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=1)
same(put["RequestedProvisionedConcurrentExecutions"], 1)
got = client.get_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
same(got["RequestedProvisionedConcurrentExecutions"], 1)
listed = client.list_provisioned_concurrency_configs(FunctionName="f")["ProvisionedConcurrencyConfigs"]
same([item["FunctionArn"] for item in listed], [alias["AliasArn"]])
refused("InvalidParameterValueException", 400, client.put_provisioned_concurrency_config, FunctionName="f",
        Qualifier="$LATEST", ProvisionedConcurrentExecutions=1)
client.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
refused("ProvisionedConcurrencyConfigNotFoundException", 404, client.get_provisioned_concurrency_config,
        FunctionName="f", Qualifier="live")

# Policies.
client.add_permission(FunctionName="f", StatementId="s3", Action="lambda:InvokeFunction",
                      Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::b", SourceAccount="123456789012")
refused("ResourceConflictException", 409, client.add_permission, FunctionName="f", StatementId="s3",
        Action="lambda:InvokeFunction", Principal="*")
assert '"AWS:SourceArn":"arn:aws:s3:::b"' in client.get_policy(FunctionName="f")["Policy"]
client.remove_permission(FunctionName="f", StatementId="s3")
refused("ResourceNotFoundException", 404, client.get_policy, FunctionName="f")
refused("ResourceNotFoundException", 404, client.remove_permission, FunctionName="f", StatementId="s3")

# URLs.
url = client.create_function_url_config(FunctionName="f", Qualifier="live", AuthType="NONE",
                                        Cors={"AllowOrigins": ["*"]})
assert url["FunctionUrl"].startswith("http://") and ".lambda-url.us-east-1." in url["FunctionUrl"], url
refused("ResourceConflictException", 409, client.create_function_url_config, FunctionName="f", Qualifier="live",
        AuthType="NONE")
client.update_function_url_config(FunctionName="f", Qualifier="live", AuthType="AWS_IAM")
same(client.get_function_url_config(FunctionName="f", Qualifier="live")["AuthType"], "AWS_IAM")
same(len(client.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"]), 1)
client.delete_function_url_config(FunctionName="f", Qualifier="live")
refused("ResourceNotFoundException", 404, client.get_function_url_config, FunctionName="f", Qualifier="live")

# Events.
client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=1)
config = client.update_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=60)
same((config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]), (1, 60))
same(len(client.list_function_event_invoke_configs(FunctionName="f")["FunctionEventInvokeConfigs"]), 1)
client.delete_function_event_invoke_config(FunctionName="f")
refused("ResourceNotFoundException", 404, client.get_function_event_invoke_config, FunctionName="f")
for nowhere in ["arn:aws:sqs:us-east-1:123456789012:queue", "file:///etc/passwd"]:
    refused("InvalidParameterValueException", 400, client.put_function_event_invoke_config, FunctionName="f",
            DestinationConfig={"OnFailure": {"Destination": nowhere}})
    refused("InvalidParameterValueException", 400, client.update_function_configuration, FunctionName="f",
            DeadLetterConfig={"TargetArn": nowhere})

# What was given up is told to another function, which has one sandbox and remembers.
create(client, "fails", package("def lambda_handler(event, context): raise ValueError('no')"))
told = create(client, "told", package(
    "told = None\n"
    "def lambda_handler(event, context):\n"
    "    global told\n"
    "    told = event or told\n"
    "    return told\n"))
client.put_function_concurrency(FunctionName="told", ReservedConcurrentExecutions=1)
client.put_function_event_invoke_config(FunctionName="fails", MaximumRetryAttempts=0,
                                        DestinationConfig={"OnFailure": {"Destination": told["FunctionArn"]}})
same(client.invoke(FunctionName="fails", InvocationType="Event", Payload="7")["StatusCode"], 202)


def what_was_told():
    """What the function remembers, once it is free."""
    for _ in range(300):
        try:
            if (record := ask(client, "told")) is not None:
                return record
        except client.exceptions.TooManyRequestsException:
            pass
        time.sleep(0.1)
    raise AssertionError("nobody was told")


record = what_was_told()
same((record["requestPayload"], record["requestContext"]["condition"]), (7, "RetriesExhausted"))
same(record["responsePayload"]["errorMessage"], "no")

# What Terraform reads.
same(client.get_function_code_signing_config(FunctionName="f")["CodeSigningConfigArn"], "")
same(client.get_runtime_management_config(FunctionName="f")["UpdateRuntimeOn"], "Auto")
same(client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"], "Terminate")

client.delete_alias(FunctionName="f", Name="live")
refused("ResourceNotFoundException", 404, client.invoke, FunctionName="f", Qualifier="live")
