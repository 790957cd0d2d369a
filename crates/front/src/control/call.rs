//! One call of the control API, as it came in and as it is answered.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use bytes::Bytes;
use protocol::FunctionName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::aws_error::AwsError;
use crate::names::{self, FunctionRef};

/// Parameters in the path, by their names in the table of operations.
pub(crate) type Params = BTreeMap<String, String>;

/// Items of a page where the client does not say, and the most it may say.
const PAGE_ITEMS: usize = 50;
const PAGE_ITEMS_MAX: usize = 10_000;

/// A call.
pub(crate) struct Call {
    params: Params,
    query: Vec<(String, String)>,
    body: Bytes,
}

/// What a client gets that asked for something allowed.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Option<Value>,
}

impl Answer {
    pub(crate) fn with(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body) }
    }

    pub(crate) fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }
}

impl Call {
    pub(crate) fn new(params: Params, query: &str, body: Bytes) -> Self {
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { params, query, body }
    }

    /// A parameter of the path.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// A parameter of the query, if it says anything.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All of one name.
    pub(crate) fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body; one that is not there says nothing.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, AwsError> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| AwsError::serialization(&error.to_string()))
    }

    /// The function that the path names, and the qualifier from there or from the query.
    pub(crate) fn function(&self) -> Result<FunctionRef, AwsError> {
        Ok(names::find(self.param("FunctionName"), self.query("Qualifier"))?)
    }

    /// The function that the path names, where no version of it can be meant.
    pub(crate) fn whole_function(&self) -> Result<FunctionName, AwsError> {
        let FunctionRef { name, qualifier } = self.function()?;
        match qualifier.as_deref() {
            None | Some(catalogue::LATEST) => Ok(name),
            Some(_) => Err(AwsError::invalid("This operation is for functions, and takes no qualifier.")),
        }
    }

    /// Some of these: those after the marker, as many as the client takes, and the marker of the next page. Keys are
    /// in order and none is there twice.
    pub(crate) fn page<T>(&self, items: Vec<(String, T)>) -> Result<(Vec<T>, Option<String>), AwsError> {
        let max = match self.query("MaxItems") {
            None => PAGE_ITEMS,
            Some(text) => match text.parse() {
                Ok(max @ 1..=PAGE_ITEMS_MAX) => max,
                _ => {
                    return Err(AwsError::validation(text, "maxItems", "Member must be between 1 and 10000"));
                }
            },
        };
        let after = self.query("Marker").unwrap_or_default();
        let mut rest = items.into_iter().skip_while(|(key, _)| key.as_str() <= after);
        let mut last = String::new();
        let taken = rest.by_ref().take(max).map(|(key, item)| {
            last = key;
            item
        });
        let taken: Vec<T> = taken.collect();
        let next = rest.next().map(|_| last);
        Ok((taken, next))
    }
}

/// `items` under this name, with the marker of the next page if there is one.
pub(crate) fn listed(name: &str, (items, next): (Vec<Value>, Option<String>)) -> Value {
    let mut body = serde_json::json!({ name: items });
    if let Some(next) = next {
        body["NextMarker"] = next.into();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, query: &str) -> Call {
        Call::new(Params::from([("FunctionName".to_owned(), name.to_owned())]), query, Bytes::new())
    }

    #[track_caller]
    fn check_function(name: &str, query: &str, expected: Result<(&str, Option<&str>), u16>) {
        let found = call(name, query).function();
        let found = found.as_ref().map(|r| (r.name.as_str(), r.qualifier.as_deref()));
        assert_eq!(found.map_err(|error| error.status()), expected, "{name} {query}");
    }

    #[test]
    fn the_qualifier_stands_in_the_name_or_in_the_query() {
        check_function("f", "", Ok(("f", None)));
        check_function("f:1", "", Ok(("f", Some("1"))));
        check_function("f", "Qualifier=1", Ok(("f", Some("1"))));
        check_function("f:1", "Qualifier=1", Ok(("f", Some("1"))));
        check_function("f:1", "Qualifier=2", Err(400));
        check_function("f", "Qualifier=%24LATEST", Ok(("f", Some("$LATEST"))));
        check_function("f", "Qualifier=", Ok(("f", None)));
        check_function("f", "Qualifier=a%20b", Err(400));
        check_function("a b", "", Err(400));
    }

    #[test]
    fn pages_follow_each_other_and_leave_nothing_out() {
        let items = || (0..7).map(|n| (format!("k{n}"), n)).collect::<Vec<_>>();
        let (mut seen, mut marker) = (Vec::new(), String::new());
        for page in 0.. {
            assert!(page < 3);
            let (taken, next) = call("f", &format!("MaxItems=3&Marker={marker}")).page(items()).unwrap();
            seen.extend(taken);
            match next {
                Some(next) => marker = next,
                None => break,
            }
        }
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_has_a_bound() {
        for text in ["0", "10001", "-1", "many"] {
            let refused = call("f", &format!("MaxItems={text}")).page(vec![("k".to_owned(), 1)]);
            assert_eq!(refused.unwrap_err().status(), 400, "{text}");
        }
    }
}
