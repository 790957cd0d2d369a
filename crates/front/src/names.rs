//! The ways to name a function: a name, `name:qualifier`, a partial ARN, a full ARN; and a qualifier beside these.

use protocol::{FunctionName, InvalidName};

/// The longest qualifier.
const QUALIFIER_LEN_MAX: usize = 128;

/// A function, and which version or alias of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FunctionRef {
    pub(crate) name: FunctionName,
    pub(crate) qualifier: Option<String>,
}

/// The text names no function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAFunction {
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("{text:?} is no ARN of a function")]
    Arn { text: String },
    #[error("The derived qualifier from the function name does not match the specified qualifier.")]
    TwoQualifiers,
    #[error("{text:?} is no qualifier")]
    Qualifier { text: String },
}

/// The function that a call names, and the qualifier that is in the name or apart from it. An empty one apart says
/// nothing.
pub(crate) fn find(text: &str, apart: Option<&str>) -> Result<FunctionRef, NotAFunction> {
    let FunctionRef { name, qualifier } = parse(text)?;
    let apart = apart.filter(|apart| !apart.is_empty());
    let qualifier = match (qualifier, apart) {
        (Some(own), Some(apart)) if own != apart => return Err(NotAFunction::TwoQualifiers),
        (own, apart) => own.or(apart.map(str::to_owned)),
    };
    match qualifier {
        Some(text) if !is_qualifier(&text) => Err(NotAFunction::Qualifier { text }),
        qualifier => Ok(FunctionRef { name, qualifier }),
    }
}

/// Letters, digits, `$`, `-` and `_`.
fn is_qualifier(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '$' | '-' | '_');
    (1..=QUALIFIER_LEN_MAX).contains(&text.len()) && text.chars().all(allowed)
}

/// Reads any of the ways. Region and account are not compared: there is one of each here.
pub(crate) fn parse(text: &str) -> Result<FunctionRef, NotAFunction> {
    let parts: Vec<&str> = text.split(':').collect();
    let (name, qualifier) = match parts[..] {
        [name] => (name, None),
        [name, qualifier] => (name, Some(qualifier)),
        [_, "function", name] | ["arn", _, "lambda", _, _, "function", name] => (name, None),
        [_, "function", name, qualifier] | ["arn", _, "lambda", _, _, "function", name, qualifier] => {
            (name, Some(qualifier))
        }
        _ => return Err(NotAFunction::Arn { text: text.to_owned() }),
    };
    Ok(FunctionRef { name: name.parse()?, qualifier: qualifier.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, Option<&str>)>) {
        let parsed = parse(text).ok();
        let parsed = parsed.as_ref().map(|r| (r.name.as_str(), r.qualifier.as_deref()));
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn a_function_can_be_named_in_four_ways() {
        check("hello", Some(("hello", None)));
        check("hello:$LATEST", Some(("hello", Some("$LATEST"))));
        check("123456789012:function:hello", Some(("hello", None)));
        check("123456789012:function:hello:live", Some(("hello", Some("live"))));
        check("arn:aws:lambda:us-east-1:123456789012:function:hello", Some(("hello", None)));
        check("arn:aws:lambda:us-east-1:123456789012:function:hello:3", Some(("hello", Some("3"))));
    }

    #[track_caller]
    fn check_found(text: &str, apart: Option<&str>, expected: Option<Option<&str>>) {
        let found = find(text, apart).ok();
        let found = found.as_ref().map(|found| found.qualifier.as_deref());
        assert_eq!(found, expected, "{text:?} {apart:?}");
    }

    #[test]
    fn a_qualifier_stands_in_the_name_or_apart_and_does_not_contradict_itself() {
        check_found("f", None, Some(None));
        check_found("f", Some(""), Some(None));
        check_found("f:1", None, Some(Some("1")));
        check_found("f", Some("1"), Some(Some("1")));
        check_found("f:1", Some("1"), Some(Some("1")));
        check_found("f:1", Some("2"), None);
        check_found("f", Some("$LATEST"), Some(Some("$LATEST")));
        check_found("f", Some("+1"), None);
        check_found("f", Some("a b"), None);
        check_found("f:", None, None);
        check_found("f", Some(&"a".repeat(129)), None);
    }

    #[test]
    fn other_text_names_none() {
        check("", None);
        check("a b", None);
        check("../x", None);
        check("arn:aws:s3:::bucket", None);
        check("arn:aws:lambda:us-east-1:1:layer:hello", None);
        check("a:b:c:d:e", None);
    }
}
