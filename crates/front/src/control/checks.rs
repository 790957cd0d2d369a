//! Values that clients give, checked as Lambda checks them, with its words.

use std::collections::BTreeMap;

use serde_json::Value;

use super::settings::ARCHITECTURE;
use crate::aws_error::AwsError;
use crate::function_toml;

/// Lambda's bound for all variables together, as JSON.
const ENVIRONMENT_BYTES_MAX: usize = 4096;

/// Of a setting that is only remembered.
const REMEMBERED_BYTES_MAX: usize = 8 * 1024;
const REMEMBERED_DEPTH_MAX: usize = 8;

const HANDLER_LEN_MAX: usize = 128;
const DESCRIPTION_LEN_MAX: usize = 256;
const ROLE_LEN_MAX: usize = 10_000;
const TAGS_MAX: usize = 50;
const TAG_KEY_LEN_MAX: usize = 128;
const TAG_VALUE_LEN_MAX: usize = 256;

/// Python's and Node's versions that clients name. Which interpreter runs them the operator says.
const RUNTIMES: [&str; 16] = [
    "python3.8",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "nodejs26.x",
    "provided",
    "provided.al2",
    "provided.al2023",
];

pub(super) fn runtime(runtime: String) -> Result<String, AwsError> {
    if RUNTIMES.contains(&runtime.as_str()) {
        return Ok(runtime);
    }
    Err(AwsError::invalid(&format!(
        "Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}]",
        RUNTIMES.join(", ")
    )))
}

pub(super) fn role(role: String) -> Result<String, AwsError> {
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", account, name]
            if partition.starts_with("aws")
                && account.len() == 12
                && account.chars().all(|c| c.is_ascii_digit())
                && name.starts_with("role/")
                && role.len() <= ROLE_LEN_MAX =>
        {
            Ok(role)
        }
        _ => {
            let pattern = r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+";
            let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
            Err(AwsError::validation(&role, "role", &constraint))
        }
    }
}

pub(super) fn handler(handler: String) -> Result<String, AwsError> {
    if handler.is_empty()
        || handler.len() > HANDLER_LEN_MAX
        || handler.contains(|c: char| c.is_whitespace() || c == '\0')
    {
        let constraint =
            r"Member must satisfy regular expression pattern: [^\s]+ with length less than or equal to 128";
        return Err(AwsError::validation(&handler, "handler", constraint));
    }
    Ok(handler)
}

pub(super) fn description(text: String) -> Result<String, AwsError> {
    if text.chars().count() > DESCRIPTION_LEN_MAX {
        let constraint = "Member must have length less than or equal to 256";
        return Err(AwsError::validation(&text, "description", constraint));
    }
    Ok(text)
}

/// `min` to `max`, both included.
pub(super) fn number(value: i64, name: &str, min: u32, max: u32) -> Result<u32, AwsError> {
    let constraint = match value {
        value if value < min.into() => format!("Member must have value greater than or equal to {min}"),
        value if value > max.into() => format!("Member must have value less than or equal to {max}"),
        value => return Ok(value as u32),
    };
    Err(AwsError::validation(&value.to_string(), name, &constraint))
}

pub(super) fn environment(variables: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, AwsError> {
    if let Some((key, why)) = variables
        .iter()
        .find_map(|(key, value)| function_toml::variable_fault(key, value).map(|why| (key, why)))
    {
        return Err(AwsError::invalid(&format!(
            "Lambda was unable to configure your environment variables: {key} {why}"
        )));
    }
    let len = serde_json::to_string(&variables).map_or(0, |text| text.len());
    if len > ENVIRONMENT_BYTES_MAX {
        return Err(AwsError::invalid(&format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided exceeded the 4KB limit. String measured: {len} bytes"
        )));
    }
    Ok(variables)
}

pub(super) fn snap_start(apply_on: Option<String>) -> Result<bool, AwsError> {
    match apply_on.as_deref() {
        Some("PublishedVersions") => Ok(true),
        None | Some("None") => Ok(false),
        Some(other) => {
            let constraint = "Member must satisfy enum value set: [PublishedVersions, None]";
            Err(AwsError::validation(other, "snapStart.applyOn", constraint))
        }
    }
}

/// One, and that of this machine.
pub(super) fn architectures(named: &[String]) -> Result<(), AwsError> {
    match named {
        [] => Ok(()),
        [one] if one == ARCHITECTURE => Ok(()),
        _ => Err(AwsError::invalid(&format!(
            "Architectures must be [{ARCHITECTURE}]: this server has no other."
        ))),
    }
}

pub(super) fn tags(tags: &BTreeMap<String, String>) -> Result<(), AwsError> {
    if tags.len() > TAGS_MAX {
        return Err(AwsError::invalid("A function can have 50 tags at most."));
    }
    for (key, value) in tags {
        if key.is_empty()
            || key.chars().count() > TAG_KEY_LEN_MAX
            || value.chars().count() > TAG_VALUE_LEN_MAX
        {
            return Err(AwsError::invalid(
                "Tag keys have 1 to 128 characters, and tag values 256 characters at most.",
            ));
        }
    }
    Ok(())
}

/// A name of an alias: not a number, so that it is none of a version.
pub(super) fn alias(name: &str) -> Result<(), AwsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_number = name.chars().all(|c| c.is_ascii_digit());
    if is_number || name.len() > 128 || !name.chars().all(allowed) {
        let constraint = "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)";
        return Err(AwsError::validation(name, "name", constraint));
    }
    Ok(())
}

/// What is remembered without being understood is small and flat: what nests deeper than a parser follows could be
/// written and never read again.
pub(super) fn remembered(name: &str, value: &Value) -> Result<(), AwsError> {
    let fits = value.to_string().len() <= REMEMBERED_BYTES_MAX && depth(value) <= REMEMBERED_DEPTH_MAX;
    if fits { Ok(()) } else { Err(AwsError::invalid(&format!("{name} is too large, or nested too deeply."))) }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_remembered_is_small_and_flat() {
        let nested =
            |depth| (0..depth).fold(serde_json::json!(1), |value, _| serde_json::json!({ "a": value }));
        assert!(remembered("LoggingConfig", &nested(REMEMBERED_DEPTH_MAX)).is_ok());
        assert!(remembered("LoggingConfig", &nested(REMEMBERED_DEPTH_MAX + 1)).is_err());
        assert!(remembered("KMSKeyArn", &"x".repeat(REMEMBERED_BYTES_MAX).into()).is_err());
    }

    #[track_caller]
    fn check<T>(result: Result<T, AwsError>, accepted: bool) {
        assert_eq!(result.map(|_| ()).map_err(|error| error.status()), accepted.then_some(()).ok_or(400));
    }

    #[test]
    fn values_have_lambdas_bounds() {
        check(number(1, "timeout", 1, 900), true);
        check(number(900, "timeout", 1, 900), true);
        check(number(0, "timeout", 1, 900), false);
        check(number(901, "timeout", 1, 900), false);
        check(number(i64::MIN, "timeout", 1, 900), false);
        check(runtime("python3.12".to_owned()), true);
        check(runtime("cobol".to_owned()), false);
        check(role("arn:aws:iam::123456789012:role/x".to_owned()), true);
        check(role("arn:aws:iam::1:role/x".to_owned()), false);
        check(role("me".to_owned()), false);
        check(handler("a.b".to_owned()), true);
        check(handler("a b".to_owned()), false);
        check(handler("a".repeat(129)), false);
        check(description("ä".repeat(256)), true);
        check(description("ä".repeat(257)), false);
        check(alias("live"), true);
        check(alias("1"), false);
        check(alias("1a"), true);
        check(alias("$LATEST"), false);
        check(alias(""), false);
    }

    #[test]
    fn variables_are_few_and_not_the_runtimes_own() {
        let with = |key: &str, len| BTreeMap::from([(key.to_owned(), "x".repeat(len))]);
        check(environment(with("KEY", 4000)), true);
        check(environment(with("KEY", 4096)), false);
        check(environment(with("_HANDLER", 1)), false);
        check(environment(with("A B", 1)), false);
    }
}
