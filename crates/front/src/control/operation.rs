//! Every operation of the control API: its name, method and path, and what does it. Routing is made from this table,
//! and so is anything else that must know what there is.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use serde_json::Value;

use super::call::{Answer, Call, Params};
use super::{
    Control, account, alias, code, concurrency, configuration, event_invoke, function, policy, tags, url,
    version,
};
use crate::aws_error::AwsError;
use crate::body;

/// One operation.
pub(crate) struct Operation {
    /// Amazon's name.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// With the names of its parameters in braces.
    pub(crate) path: &'static str,
    pub(crate) does: Does,
}

/// What does an operation. Blocking: it waits for the disk.
pub(crate) type Does = fn(&Control, &Call) -> Result<Answer, AwsError>;

/// The largest body that carries a package: 50 MiB in base64, and its configuration. Lambda's limit.
const UPLOAD_BYTES_MAX: usize = 69_905_067;

/// The largest other body. Environments and policies have some kilobytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

macro_rules! operations {
    ($($name:literal $method:ident $path:literal $does:path;)+) => {
        /// All of them.
        pub(crate) const OPERATIONS: &[Operation] = &[
            $(Operation { name: $name, method: Method::$method, path: $path, does: $does }),+
        ];
    };
}

operations! {
    "CreateFunction" POST "/2015-03-31/functions" function::create;
    "ListFunctions" GET "/2015-03-31/functions" function::list;
    "GetFunction" GET "/2015-03-31/functions/{FunctionName}" function::get;
    "DeleteFunction" DELETE "/2015-03-31/functions/{FunctionName}" function::delete;
    "UpdateFunctionCode" PUT "/2015-03-31/functions/{FunctionName}/code" code::update;
    "GetFunctionConfiguration" GET "/2015-03-31/functions/{FunctionName}/configuration" configuration::get;
    "UpdateFunctionConfiguration" PUT "/2015-03-31/functions/{FunctionName}/configuration" configuration::update;
    "PublishVersion" POST "/2015-03-31/functions/{FunctionName}/versions" version::publish;
    "ListVersionsByFunction" GET "/2015-03-31/functions/{FunctionName}/versions" version::list;
    "CreateAlias" POST "/2015-03-31/functions/{FunctionName}/aliases" alias::create;
    "ListAliases" GET "/2015-03-31/functions/{FunctionName}/aliases" alias::list;
    "GetAlias" GET "/2015-03-31/functions/{FunctionName}/aliases/{Name}" alias::get;
    "UpdateAlias" PUT "/2015-03-31/functions/{FunctionName}/aliases/{Name}" alias::update;
    "DeleteAlias" DELETE "/2015-03-31/functions/{FunctionName}/aliases/{Name}" alias::delete;
    "AddPermission" POST "/2015-03-31/functions/{FunctionName}/policy" policy::add;
    "GetPolicy" GET "/2015-03-31/functions/{FunctionName}/policy" policy::get;
    "RemovePermission" DELETE "/2015-03-31/functions/{FunctionName}/policy/{StatementId}" policy::remove;
    "GetFunctionConcurrency" GET "/2019-09-30/functions/{FunctionName}/concurrency" concurrency::get_reserved;
    "PutFunctionConcurrency" PUT "/2017-10-31/functions/{FunctionName}/concurrency" concurrency::put_reserved;
    "DeleteFunctionConcurrency" DELETE "/2017-10-31/functions/{FunctionName}/concurrency" concurrency::delete_reserved;
    "GetProvisionedConcurrencyConfig" GET "/2019-09-30/functions/{FunctionName}/provisioned-concurrency" concurrency::get_provisioned;
    "PutProvisionedConcurrencyConfig" PUT "/2019-09-30/functions/{FunctionName}/provisioned-concurrency" concurrency::put_provisioned;
    "DeleteProvisionedConcurrencyConfig" DELETE "/2019-09-30/functions/{FunctionName}/provisioned-concurrency" concurrency::delete_provisioned;
    "CreateFunctionUrlConfig" POST "/2021-10-31/functions/{FunctionName}/url" url::create;
    "GetFunctionUrlConfig" GET "/2021-10-31/functions/{FunctionName}/url" url::get;
    "UpdateFunctionUrlConfig" PUT "/2021-10-31/functions/{FunctionName}/url" url::update;
    "DeleteFunctionUrlConfig" DELETE "/2021-10-31/functions/{FunctionName}/url" url::delete;
    "ListFunctionUrlConfigs" GET "/2021-10-31/functions/{FunctionName}/urls" url::list;
    "PutFunctionEventInvokeConfig" PUT "/2019-09-25/functions/{FunctionName}/event-invoke-config" event_invoke::put;
    "UpdateFunctionEventInvokeConfig" POST "/2019-09-25/functions/{FunctionName}/event-invoke-config" event_invoke::update;
    "GetFunctionEventInvokeConfig" GET "/2019-09-25/functions/{FunctionName}/event-invoke-config" event_invoke::get;
    "DeleteFunctionEventInvokeConfig" DELETE "/2019-09-25/functions/{FunctionName}/event-invoke-config" event_invoke::delete;
    "ListFunctionEventInvokeConfigs" GET "/2019-09-25/functions/{FunctionName}/event-invoke-config/list" event_invoke::list;
    "ListTags" GET "/2017-03-31/tags/{Resource}" tags::list;
    "TagResource" POST "/2017-03-31/tags/{Resource}" tags::tag;
    "UntagResource" DELETE "/2017-03-31/tags/{Resource}" tags::untag;
    "GetAccountSettings" GET "/2016-08-19/account-settings" account::settings;
    "GetFunctionCodeSigningConfig" GET "/2020-06-30/functions/{FunctionName}/code-signing-config" account::code_signing;
    "GetRuntimeManagementConfig" GET "/2021-07-20/functions/{FunctionName}/runtime-management-config" account::runtime_management;
    "GetFunctionRecursionConfig" GET "/2024-08-31/functions/{FunctionName}/recursion-config" account::recursion;
    "PutFunctionRecursionConfig" PUT "/2024-08-31/functions/{FunctionName}/recursion-config" account::put_recursion;
}

/// The control API. Clients put a slash behind some paths and not behind others: both are routes.
pub(crate) fn router(control: &Arc<Control>) -> Router {
    let mut router = Router::new();
    for operation in OPERATIONS {
        for path in [operation.path.to_owned(), format!("{}/", operation.path)] {
            let control = Arc::clone(control);
            let filter = MethodFilter::try_from(operation.method.clone()).unwrap_or(MethodFilter::GET);
            let handler =
                async move |path: Result<Path<Params>, _>, RawQuery(query): RawQuery, body: Body| {
                    let params = path.map(|Path(params)| params).map_err(|_| AwsError::malformed_path());
                    let answered = match params {
                        Ok(params) => control.answer(operation, params, query, body).await,
                        Err(error) => Err(error),
                    };
                    with_request_id(answered.unwrap_or_else(IntoResponse::into_response))
                };
            router = router.route(&path, on(filter, handler));
        }
    }
    router
}

impl Control {
    async fn answer(
        self: &Arc<Self>,
        operation: &'static Operation,
        params: Params,
        query: Option<String>,
        body: Body,
    ) -> Result<Response, AwsError> {
        let mut place = self.room.enter()?;
        let is_upload = operation.name == "CreateFunction" || operation.name == "UpdateFunctionCode";
        let limit = if is_upload { UPLOAD_BYTES_MAX } else { BODY_BYTES_MAX };
        let read = body::read(body, limit, &mut place).await;
        let body = read.map_err(|error| error.told(|| AwsError::entity_too_large(limit, operation.name)))?;
        // Not before it is here: who sends slowly holds up nobody.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let call = Call::new(params, query.as_deref().unwrap_or_default(), body);
        let control = Arc::clone(self);
        // Goes on if the client leaves: what was begun is not left half done.
        let done = tokio::task::spawn_blocking(move || {
            let answer = (operation.does)(&control, &call);
            drop((permit, place));
            answer
        });
        let answer = done.await.map_err(|error| AwsError::service(error.to_string()))??;
        Ok(match answer.body {
            Some(body) => (answer.status, axum::Json::<Value>(body)).into_response(),
            None => answer.status.into_response(),
        })
    }
}

/// Clients print it, so that people can name a request.
fn with_request_id(mut response: Response) -> Response {
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

/// What most operations answer with.
impl From<Value> for Answer {
    fn from(body: Value) -> Self {
        Answer { status: StatusCode::OK, body: Some(body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operation_is_there_twice() {
        let mut names: Vec<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
