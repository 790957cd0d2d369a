//! Function URLs: plain HTTP requests become events of payload format 2.0, and answers become HTTP responses.
//!
//! A URL is reached by its host, `ID.lambda-url.REGION.…` as in Lambda (`ID.lambda-url.localhost` needs no name
//! server), and for clients that cannot choose their host by a path, `/url/ID/…`.

mod answer;
mod cors;
mod event;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header, request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, Collected};
use protocol::{FunctionName, InvocationId};
use serde::Deserialize;
use tracing::Instrument;

pub use cors::Cors;

use crate::access::Access;
use crate::dispatch::Ended;
use crate::invoke::{self, Door};
use crate::log::request_span;
use crate::outcome::Outcome;
use crate::room::Place;
use crate::stream::Reply;

/// Where the paths of URLs start, on hosts that are none.
const PATH_PREFIX: &str = "/url/";

/// What is between the id and the region in the host of a URL.
const HOST_MARK: &str = ".lambda-url.";

/// Who may call a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum UrlAuth {
    /// Whoever reaches it.
    #[default]
    #[serde(rename = "NONE")]
    None,
    /// Who signs requests as for the rest of the API.
    #[serde(rename = "AWS_IAM")]
    AwsIam,
}

/// How a URL answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvokeMode {
    /// When the answer is whole; it is read as JSON.
    #[default]
    Buffered,
    /// As the pieces come.
    ResponseStream,
}

/// How a function is reached by its URL. The names are those of Lambda's API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UrlSettings {
    /// Who may call.
    pub auth: UrlAuth,
    /// How it answers.
    pub mode: InvokeMode,
    /// What browsers on other sites may do; `None`: what the function itself says.
    pub cors: Option<Cors>,
}

/// One URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FunctionUrl {
    pub(crate) function: FunctionName,
    /// A version or an alias.
    pub(crate) qualifier: Option<String>,
    pub(crate) settings: UrlSettings,
}

/// Knows which functions have a URL.
pub(crate) trait UrlLookup: Send + Sync + 'static {
    /// The URL of this id.
    fn find(&self, id: &str) -> Option<FunctionUrl>;
}

/// What a request to a URL names: the id, and the path that the function sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) id: String,
    path: String,
    host: String,
}

impl Address {
    /// `None`: the request is for the API.
    pub(crate) fn of(head: &request::Parts) -> Option<Address> {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(name, _port)| name).to_owned();
        let path = head.uri.path();
        if let Some((id, _)) = host.split_once(HOST_MARK) {
            return Some(Address { id: id.to_owned(), path: path.to_owned(), host });
        }
        let (id, rest) = match path.strip_prefix(PATH_PREFIX)?.split_once('/') {
            Some((id, rest)) => (id, rest),
            None => (path.strip_prefix(PATH_PREFIX)?, ""),
        };
        Some(Address { id: id.to_owned(), path: format!("/{rest}"), host })
    }
}

/// All URLs of a server.
#[derive(Clone)]
pub(crate) struct FunctionUrls {
    door: Door,
    lookup: Arc<dyn UrlLookup>,
    access: Access,
}

/// Answers requests to URLs; all others go on to the API.
pub(crate) async fn intercept(State(urls): State<FunctionUrls>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match Address::of(&head) {
        Some(address) => urls.answer(address, head, body).await,
        None => next.run(Request::from_parts(head, body)).await,
    }
}

impl FunctionUrls {
    pub(crate) fn new(door: Door, lookup: Arc<dyn UrlLookup>, access: Access) -> Self {
        Self { door, lookup, access }
    }

    async fn answer(&self, address: Address, head: request::Parts, body: axum::body::Body) -> Response {
        let Some(url) = self.lookup.find(&address.id) else {
            let what = format!("there is no function URL `{}`\n", address.id);
            return (StatusCode::NOT_FOUND, what).into_response();
        };
        let cors = url.settings.cors.clone();
        let origin = head.headers.get(header::ORIGIN).cloned();
        if let (Some(cors), Some(origin), &Method::OPTIONS) = (&cors, &origin, &head.method) {
            return cors.preflight(origin);
        }
        let (head, body) = match url.settings.auth {
            UrlAuth::None => (head, body),
            UrlAuth::AwsIam => match self.access.admit(Request::from_parts(head, body)).await {
                Ok(request) => request.into_parts(),
                Err(denied) => return denied.into_response(),
            },
        };
        let invocation = InvocationId(uuid::Uuid::new_v4().to_string());
        let mut response =
            self.invoke(&invocation, &url, &address, head, body).instrument(request_span(&invocation)).await;
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(invocation.0) {
            headers.insert("x-amzn-requestid", id);
        }
        if let (Some(cors), Some(origin)) = (cors, origin) {
            cors.add_to(headers, &origin);
        }
        response
    }

    async fn invoke(
        &self,
        invocation: &InvocationId,
        url: &FunctionUrl,
        address: &Address,
        mut head: request::Parts,
        body: axum::body::Body,
    ) -> Response {
        // A runtime would take these for what Lambda vouches for.
        for name in ["x-amz-client-context", "x-amz-cognito-identity"] {
            head.headers.remove(name);
        }
        let mut place = match self.door.place() {
            Ok(place) => place,
            Err(busy) => return busy.into_response(),
        };
        let body = match invoke::read_body(body, &mut place).await {
            Ok(body) => body,
            Err(error) => return error.into_response(),
        };
        let event = event::of_request(invocation, address, &head, &body, source(&head));
        let name = url.function.as_str();
        let request =
            self.door.request_with(invocation, (name, url.qualifier.as_deref()), &head.headers, event);
        let reply = match request.await {
            Ok(request) => self.door.begin(request).await,
            Err(error) => return error.into_response(),
        };
        match (url.settings.mode, reply) {
            (InvokeMode::ResponseStream, Reply::Stream(stream)) => answer::of_stream(stream, place).await,
            (mode, reply) => {
                let response = self.whole(mode, reply.whole().await, url.qualifier.as_deref());
                held(response, place).await
            }
        }
    }
}

impl FunctionUrls {
    /// The response to an answer that came whole. What did not come as pieces goes out as it is, where pieces do.
    fn whole(&self, mode: InvokeMode, ended: Ended, qualifier: Option<&str>) -> Response {
        match (self.door.refusal(&ended, qualifier), ended.outcome) {
            (Some(refusal), _) => refusal.into_response(),
            (None, Outcome::Answer { payload, content_type }) if mode == InvokeMode::ResponseStream => {
                answer::raw(content_type, payload)
            }
            (None, outcome) => answer::of_outcome(outcome),
        }
    }
}

/// The same response, its body in room that is given back when it is written.
async fn held(response: Response, place: Place) -> Response {
    let (head, body) = response.into_parts();
    let whole = body.collect().await.map(Collected::to_bytes); // One piece, which is there: nothing is copied.
    Response::from_parts(head, place.hold(whole.unwrap_or_default()).into())
}

/// Who sent the request.
fn source(head: &request::Parts) -> IpAddr {
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(peer)| peer.ip())
}

/// The pairs of a query, decoded; none if they are not readable.
fn query_pairs(uri: &Uri) -> Vec<(String, String)> {
    axum::extract::Query::try_from_uri(uri).map(|axum::extract::Query(pairs)| pairs).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, path: &str, expected: Option<(&str, &str)>) {
        let request = Request::builder().uri(path).header("host", host).body(()).unwrap();
        let address = Address::of(&request.into_parts().0);
        let found = address.as_ref().map(|address| (address.id.as_str(), address.path.as_str()));
        assert_eq!(found, expected, "{host} {path}");
    }

    #[test]
    fn a_url_is_named_by_its_host_or_by_a_path() {
        check("abc.lambda-url.us-east-1.on.aws", "/a/b?c", Some(("abc", "/a/b")));
        check("abc.lambda-url.localhost:9000", "/url/other", Some(("abc", "/url/other")));
        check("127.0.0.1:9000", "/url/abc/a%20b?c", Some(("abc", "/a%20b")));
        check("127.0.0.1:9000", "/url/abc", Some(("abc", "/")));
        check("127.0.0.1:9000", "/2015-03-31/functions/", None);
        check("127.0.0.1:9000", "/urls", None);
    }
}
