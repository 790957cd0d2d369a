//! What browsers on other sites may do with a URL.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

/// Lambda's CORS settings, in the words of `function.toml` or in Lambda's own; an empty list says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Sites that may call; `*`: all.
    #[serde(alias = "AllowOrigins")]
    pub allow_origins: Vec<String>,
    /// Methods they may use.
    #[serde(alias = "AllowMethods")]
    pub allow_methods: Vec<String>,
    /// Headers they may send.
    #[serde(alias = "AllowHeaders")]
    pub allow_headers: Vec<String>,
    /// Headers of the answer that they may see.
    #[serde(alias = "ExposeHeaders")]
    pub expose_headers: Vec<String>,
    /// Whether cookies may come along.
    #[serde(alias = "AllowCredentials")]
    pub allow_credentials: bool,
    /// How many seconds a browser may remember this.
    #[serde(alias = "MaxAge")]
    pub max_age: Option<u32>,
}

impl Cors {
    /// The answer to a browser that asks whether it may call; the function is not asked.
    pub(super) fn preflight(&self, origin: &HeaderValue) -> Response {
        let mut response = ().into_response();
        let headers = response.headers_mut();
        if self.allows(origin) {
            set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &self.allow_methods);
            set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &self.allow_headers);
            if let Some(max_age) = self.max_age {
                headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age.into());
            }
        }
        self.add_to(headers, origin);
        response
    }

    /// Says it in an answer, in place of what the function says.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, origin: &HeaderValue) {
        headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if !self.allows(origin) {
            return;
        }
        // With credentials browsers take no `*`.
        let any = self.allow_origins.iter().any(|allowed| allowed == "*") && !self.allow_credentials;
        let allowed = if any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose_headers);
        if self.allow_credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.allow_origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, values: &[String]) {
    if let (false, Ok(value)) = (values.is_empty(), HeaderValue::try_from(values.join(","))) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        let allow_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        Cors { allow_origins, allow_methods: vec!["GET".to_owned(), "PUT".to_owned()], ..Cors::default() }
    }

    #[track_caller]
    fn check(cors: &Cors, name: &str, expected: Option<&str>) {
        let response = cors.preflight(&HeaderValue::from_static("https://a.example"));
        let found = response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn a_site_that_is_allowed_hears_what_it_may_do() {
        let cors = cors(&["https://b.example", "https://a.example"]);
        check(&cors, "access-control-allow-origin", Some("https://a.example"));
        check(&cors, "access-control-allow-methods", Some("GET,PUT"));
        check(&cors, "access-control-allow-credentials", None);
    }

    #[test]
    fn another_site_hears_nothing() {
        let cors = cors(&["https://b.example"]);
        check(&cors, "access-control-allow-origin", None);
        check(&cors, "access-control-allow-methods", None);
    }

    #[test]
    fn all_sites_are_a_star_unless_cookies_come_along() {
        check(&cors(&["*"]), "access-control-allow-origin", Some("*"));
        let with_cookies = Cors { allow_credentials: true, ..cors(&["*"]) };
        check(&with_cookies, "access-control-allow-origin", Some("https://a.example"));
    }
}
