//! The one text that a request is to those who sign it: the same however it is written.

use std::fmt::Write as _;

use http::request::Parts;

use super::Denied;

/// The parameter that does not sign itself.
const SIGNATURE: &str = "X-Amz-Signature";

/// The canonical request.
pub(super) fn request(parts: &Parts, signed: &[String], body_hash: &str) -> Result<String, Denied> {
    check_signed(parts, signed)?;
    // Before it is known who asks: a header that is named again and again would make a text of any length.
    if signed.len() > parts.headers.keys_len() {
        return Err(Denied::Mismatch);
    }
    let mut text = format!("{}\n{}\n{}\n", parts.method, path(parts.uri.path()), query(parts));
    for name in signed {
        let values: Vec<_> =
            parts.headers.get_all(name).iter().map(|value| squeeze(value.as_bytes())).collect();
        if values.is_empty() {
            return Err(Denied::Mismatch); // It was taken away under way.
        }
        let _ = writeln!(text, "{name}:{}", values.join(",")); // A string takes everything.
    }
    let _ = write!(text, "\n{}\n{body_hash}", signed.join(";"));
    Ok(text)
}

/// What changes what a request means has to be signed: its host, and all headers of Amazon's own.
fn check_signed(parts: &Parts, signed: &[String]) -> Result<(), Denied> {
    let is_signed = |name: &str| signed.iter().any(|signed| signed == name);
    if !is_signed("host") {
        let what = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
        return Err(Denied::Invalid(what.to_owned()));
    }
    let of_amazon =
        parts.headers.keys().find(|name| name.as_str().starts_with("x-amz-") && !is_signed(name.as_str()));
    if let Some(name) = of_amazon {
        return Err(Denied::Invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
    }
    let body_hash = parts.headers.get("x-amz-content-sha256");
    if body_hash.is_some_and(|hash| hash == "UNSIGNED-PAYLOAD") {
        return Err(Denied::Invalid("UNSIGNED-PAYLOAD is not accepted: sign the body".to_owned()));
    }
    Ok(())
}

/// A header's value without blanks around it, and with one for several within.
fn squeeze(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The path without `.`, `..` and double slashes, encoded once more than it came.
fn path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut text = String::from("/");
    text += &parts.join("/");
    if path.ends_with('/') && !parts.is_empty() {
        text.push('/');
    }
    encode(text.as_bytes(), b"/")
}

/// Names and values, each encoded in the one way, by name and value.
fn query(parts: &Parts) -> String {
    let mut pairs: Vec<_> = parameters(parts)
        .filter(|(name, _)| name != SIGNATURE.as_bytes())
        .map(|(name, value)| (encode(&name, b""), encode(&value, b"")))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The value of one parameter.
pub(super) fn parameter(parts: &Parts, name: &str) -> Option<String> {
    let found = parameters(parts).find(|(key, _)| key == name.as_bytes());
    found.and_then(|(_, value)| String::from_utf8(value).ok())
}

/// All parameters, as the calls will read them: two that they read alike are signed alike.
fn parameters(parts: &Parts) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &rest[3..] } else { tail };
    }
    bytes
}

fn hex_digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).map(|digit| digit as u8)
}

fn encode(bytes: &[u8], also_plain: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also_plain.contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}"); // A string takes everything.
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, expected_path: &str, expected_query: &str) {
        let (parts, ()) = http::Request::get(target).body(()).unwrap().into_parts();
        assert_eq!(
            (path(parts.uri.path()).as_str(), query(&parts).as_str()),
            (expected_path, expected_query),
            "{target}"
        );
    }

    #[test]
    fn however_an_address_is_written_it_is_one_text() {
        check("/", "/", "");
        check("/a/./b//c/../d/", "/a/b/d/", "");
        check("/..", "/", "");
        check("/a/.", "/a", "");
        check("/a/..b/.c", "/a/..b/.c", "");
        check("/arn%3Aaws", "/arn%253Aaws", "");
        check("/?b=2&a=x%2fy&a=&c", "/", "a=&a=x%2Fy&b=2&c=");
        check("/?a=b+c%20d&e=1=2", "/", "a=b%20c%20d&e=1%3D2");
        check("/?a=%&X-Amz-Signature=1", "/", "a=%25");
    }

    #[test]
    fn blanks_in_headers_are_one() {
        assert_eq!(squeeze(b"  a   b\t c "), "a b c");
    }
}
