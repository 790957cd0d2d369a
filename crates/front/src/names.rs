//! The ways to name a function: a name, `name:qualifier`, a partial ARN, a full ARN.

use protocol::{FunctionName, InvalidName};

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
