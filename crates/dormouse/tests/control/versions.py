"""Versions, aliases, concurrency, policies, URLs: what tools configure beside code."""

from common import answering, ask, client, create, refused, same

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

# What Terraform reads.
same(client.get_function_code_signing_config(FunctionName="f")["CodeSigningConfigArn"], "")
same(client.get_runtime_management_config(FunctionName="f")["UpdateRuntimeOn"], "Auto")
same(client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"], "Terminate")

client.delete_alias(FunctionName="f", Name="live")
refused("ResourceNotFoundException", 404, client.invoke, FunctionName="f", Qualifier="live")
