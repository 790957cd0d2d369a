//! Who is let through the door. Where there are keys, those who sign with one. Where there are none, whoever is on this
//! machine, and no web page that somebody looks at on it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use crate::aws_error::AwsError;
use crate::body;
use crate::connections::Caller;
use crate::keys::Keys;
use crate::room::{Place, Room};
use crate::sigv4::{self, Claim, Denied};

/// What signatures are made for.
const SERVICE: &str = "lambda";

/// The largest request that is read to look at its signature: a package of 50 MB, in base64, in JSON.
const BODY_BYTES_MAX: usize = 70 * 1024 * 1024;

/// All such requests together, until what they ask for has taken room for them.
const ROOM_BYTES: usize = 512 * 1024 * 1024;

/// Who has signed a request, as an extension of it.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) key_id: String,
}

/// Decides over every request of one door. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Access {
    keys: Keys,
    /// Whether those without a key may come in while there are none.
    is_loopback: bool,
    room: Room,
}

impl Access {
    /// For a door at this address.
    pub(crate) fn new(keys: Keys, address: IpAddr) -> Self {
        Access { keys, is_loopback: address.is_loopback(), room: Room::of(ROOM_BYTES) }
    }

    /// Stands before all routes of `router`.
    pub(crate) fn guard(self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self, pass))
    }

    /// The request, if it may come in; its body has been read then where it had to be.
    pub(crate) async fn admit(&self, request: Request) -> Result<Request, AwsError> {
        let keys = self.keys.all().map_err(|error| {
            tracing::error!(%error, "nobody is let in");
            AwsError::service("the server cannot read its keys: its log says why".to_owned())
        })?;
        if keys.is_empty() && self.is_loopback {
            return check_local(&request).map(|()| request);
        }
        let (mut parts, body) = request.into_parts();
        let claim = Claim::read(&parts)?;
        // Before the body is read: who has no key gets no memory.
        let key = keys.iter().find(|key| key.id == claim.key_id()).ok_or(Denied::UnknownKey)?;
        claim.check_scope(SERVICE, SystemTime::now())?;
        let mut place = self.room.enter()?;
        let read = body::read(body, BODY_BYTES_MAX, &mut place).await;
        let bytes = read.map_err(|error| error.told(|| AwsError::too_large(BODY_BYTES_MAX)))?;
        let digest = body::work(&bytes, sigv4::digest).await;
        claim.verify(&parts, &digest, &key.secret)?;
        parts.extensions.insert(Signer { key_id: key.id.clone() });
        Ok(Request::from_parts(parts, held(bytes, place)))
    }
}

/// A body that gives up its room when it has been read again, and has room there.
fn held(bytes: Bytes, place: Place) -> Body {
    let pieces = stream::unfold((Some(bytes), place), async |(bytes, place)| {
        bytes.map(|bytes| (Ok::<_, Infallible>(bytes), (None, place)))
    });
    Body::from_stream(pieces)
}

async fn pass(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.admit(request).await {
        Ok(request) => next.run(request).await,
        Err(error) => {
            let mut response = error.into_response();
            let id = HeaderValue::try_from(uuid::Uuid::new_v4().to_string());
            // Clients show it; without one some of them fail over its absence.
            id.into_iter().for_each(|id| drop(response.headers_mut().insert("x-amzn-requestid", id)));
            response
        }
    }
}

/// Whoever is on this machine may call, but functions and web pages.
fn check_local(request: &Request) -> Result<(), AwsError> {
    if request.extensions().get() == Some(&Caller::Function) {
        let message = "a function may not call this server without a key, nor may who cannot be told from one (in a \
                       container, behind `ssh -L`, or gone again at once): `dormouse key add` makes keys";
        return Err(AwsError::denied("AccessDeniedException", message.to_owned()));
    }
    check_headers(request.headers())
}

/// A web page can make a browser send requests to this machine. It cannot make it lie about where the page is from,
/// nor, if its name was made to point here, about what it believes to talk to.
fn check_headers(headers: &HeaderMap) -> Result<(), AwsError> {
    let host = headers.get(header::HOST).map(|value| value.to_str().unwrap_or("."));
    if let Some(host) = host.filter(|host| !is_local(host)) {
        let message = format!("{host:?} is no name of this machine: use 127.0.0.1 or localhost, or a key");
        return Err(AwsError::denied("AccessDeniedException", message));
    }
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("."));
    match origin.filter(|origin| !origin.split_once("://").is_some_and(|(_, host)| is_local(host))) {
        Some(origin) => {
            let message = format!("pages of {origin:?} may not call this server without a key");
            Err(AwsError::denied("AccessDeniedException", message))
        }
        None => Ok(()),
    }
}

/// An address or name of this machine, with or without a port. A name without a dot cannot be anybody's in the world.
fn is_local(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => !host.contains('.') || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, origin: Option<&str>, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().unwrap());
        }
        assert_eq!(check_headers(&headers).is_ok(), expected, "{host} {origin:?}");
    }

    #[test]
    fn a_browser_serves_no_page_from_elsewhere() {
        for host in [
            "localhost",
            "127.0.0.1:9000",
            "[::1]:9000",
            "LOCALHOST:1",
            "f.lambda-url.localhost:80",
            "lambda",
        ] {
            check(host, None, true);
        }
        for host in [
            "evil.example",
            "evil.example:9000",
            "192.168.0.1",
            "10.0.0.1:9000",
            "localhost.evil.example",
            ".",
            "[::2]",
        ] {
            check(host, None, false);
        }
        check("localhost:9000", Some("http://localhost:3000"), true);
        check("localhost:9000", Some("https://evil.example"), false);
        check("localhost:9000", Some("null"), false);
    }
}
