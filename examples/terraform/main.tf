# A function on dormouse, described as one on Lambda is: only the provider's block differs. From this directory:
#
#   dormouse serve &
#   (cd src && python3 -m zipfile -c ../hello.zip app.py)
#   terraform init && terraform apply

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" {
  description = "Where dormouse serves."
  default     = "http://127.0.0.1:9000"
}

variable "memory_mb" {
  default = 256
}

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "any" # Or a key of `dormouse key add`.
  secret_key                  = "any"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  endpoints { lambda = var.endpoint }
}

resource "aws_lambda_function" "hello" {
  function_name    = "hello"
  role             = "arn:aws:iam::000000000000:role/none" # Taken, and never asked for anything.
  runtime          = "python3.11"
  handler          = "app.handler"
  filename         = "hello.zip"
  source_code_hash = filebase64sha256("hello.zip")
  publish          = true
  timeout          = 5
  memory_size      = var.memory_mb
  environment { variables = { GREETING = "hello" } }
  tags = { made-by = "terraform" }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.hello.function_name
  function_version = aws_lambda_function.hello.version
}

resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.hello.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
  cors { allow_origins = ["*"] }
}

resource "aws_lambda_permission" "everybody" {
  statement_id           = "url"
  action                 = "lambda:InvokeFunctionUrl"
  function_name          = aws_lambda_function.hello.function_name
  qualifier              = aws_lambda_alias.live.name
  principal              = "*"
  function_url_auth_type = "NONE"
}

resource "aws_lambda_function_event_invoke_config" "events" {
  function_name                = aws_lambda_function.hello.function_name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 60
}

resource "aws_lambda_provisioned_concurrency_config" "warm" {
  function_name                     = aws_lambda_function.hello.function_name
  qualifier                         = aws_lambda_alias.live.name
  provisioned_concurrent_executions = 1
}

data "aws_lambda_invocation" "call" {
  function_name = aws_lambda_function.hello.function_name
  qualifier     = aws_lambda_alias.live.name
  input         = jsonencode({ name = "world" })
}

output "url" {
  value = aws_lambda_function_url.live.function_url
}

output "answer" {
  value = data.aws_lambda_invocation.call.result
}
