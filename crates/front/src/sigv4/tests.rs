//! Amazon's published vectors (`aws-sig-v4-test-suite`), and what must not pass.

use super::*;

/// The key that all vectors are signed with.
const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const STAMP: &str = "20150830T123600Z";

/// Method, target, further headers, signed headers, body, signature.
type Vector<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);

const PLAIN: &str = "host;x-amz-date";

const VECTORS: [Vector<'static>; 11] = [
    ("GET", "/", &[], PLAIN, "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[],
        PLAIN,
        "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    (
        "GET",
        "//example//",
        &[],
        PLAIN,
        "",
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    (
        "GET",
        "/?Param2=value2&Param1=value1",
        &[],
        PLAIN,
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "GET",
        "/?Param1=value2&Param1=value1",
        &[],
        PLAIN,
        "",
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    // The vector has the letter itself, which no HTTP client sends.
    (
        "GET",
        "/?%E1%88%B4=bar",
        &[],
        PLAIN,
        "",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    (
        "GET",
        "/",
        &[
            ("my-header1", "value4"),
            ("my-header1", "value1"),
            ("my-header1", "value3"),
            ("my-header1", "value2"),
        ],
        "host;my-header1;x-amz-date",
        "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    (
        "GET",
        "/",
        &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
        "host;my-header1;x-amz-date",
        "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    (
        "GET",
        "/",
        &[("my-header1", " value1"), ("my-header2", "\"a   b   c\"")],
        "host;my-header1;my-header2;x-amz-date",
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "GET",
        "/",
        &[("x-amz-security-token", "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267")],
        "host;x-amz-date;x-amz-security-token",
        "",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    (
        "POST",
        "/",
        &[("content-type", "application/x-www-form-urlencoded")],
        "content-type;host;x-amz-date",
        "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
];

fn parts(vector: &Vector<'_>) -> Parts {
    let (method, target, headers, signed, _, signature) = vector;
    let mut request = http::Request::builder().method(*method).uri(*target);
    request = request.header("host", "example.amazonaws.com").header("x-amz-date", STAMP);
    for (name, value) in *headers {
        request = request.header(*name, *value);
    }
    let credential = format!("Credential={KEY}/20150830/us-east-1/service/aws4_request");
    let authorization = format!("{ALGORITHM} {credential}, SignedHeaders={signed}, Signature={signature}");
    request.header("authorization", authorization).body(()).unwrap().into_parts().0
}

fn at(stamp: &str) -> SystemTime {
    parse_stamp(stamp).unwrap()
}

/// Whether it passes at this time, with this body.
fn check(parts: &Parts, now: &str, body: &str) -> Result<(), Denied> {
    let claim = Claim::read(parts)?;
    assert_eq!(claim.key_id(), KEY);
    claim.check_scope("service", at(now))?;
    claim.verify(parts, &digest(body.as_bytes()), SECRET)
}

#[test]
fn amazons_vectors_pass() {
    for vector in &VECTORS {
        assert_eq!(check(&parts(vector), STAMP, vector.4), Ok(()), "{vector:?}");
    }
}

#[test]
fn a_change_of_anything_does_not_pass() {
    let changed = |change: fn(&mut Parts)| {
        let mut parts = parts(&VECTORS[10]);
        change(&mut parts);
        check(&parts, STAMP, "Param1=value1")
    };
    assert_eq!(changed(|_| {}), Ok(()));
    assert_eq!(changed(|parts| parts.method = http::Method::PUT), Err(Denied::Mismatch));
    assert_eq!(changed(|parts| parts.uri = "/other".parse().unwrap()), Err(Denied::Mismatch));
    assert_eq!(changed(|parts| parts.uri = "/?a".parse().unwrap()), Err(Denied::Mismatch));
    let other = |value: &str| http::HeaderValue::from_str(value).unwrap();
    assert_eq!(changed(|parts| drop(parts.headers.remove("content-type"))), Err(Denied::Mismatch));
    assert!(changed(|parts| drop(parts.headers.insert("host", "b.example".parse().unwrap()))).is_err());
    assert!(changed(|parts| drop(parts.headers.insert("x-amz-log-type", "Tail".parse().unwrap()))).is_err());
    assert_eq!(check(&parts(&VECTORS[10]), STAMP, "Param1=value2"), Err(Denied::Mismatch));
    let mut unsigned = parts(&VECTORS[0]);
    unsigned.headers.insert("x-amz-content-sha256", other("UNSIGNED-PAYLOAD"));
    assert!(matches!(check(&unsigned, STAMP, ""), Err(Denied::Invalid(_))));
    let claim = Claim::read(&parts(&VECTORS[0])).unwrap();
    assert_eq!(claim.verify(&parts(&VECTORS[0]), &digest(b""), "another secret"), Err(Denied::Mismatch));
}

#[test]
fn signatures_hold_for_five_minutes_each_way() {
    let at = |now| check(&parts(&VECTORS[0]), now, "").map_err(|denied| denied.to_string());
    assert_eq!(at("20150830T124100Z"), Ok(()));
    assert_eq!(at("20150830T123100Z"), Ok(()));
    let expired = "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)";
    assert_eq!(at("20150830T124101Z"), Err(expired.to_owned()));
    let early = "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)";
    assert_eq!(at("20150830T123059Z"), Err(early.to_owned()));
}

/// What is wrong with a request that has this `Authorization` header, and this target.
#[track_caller]
fn check_denied(target: &str, header: Option<&str>, kind: &str, words: &str) {
    let mut request = http::Request::get(target).header("host", "h").header("x-amz-date", STAMP);
    if let Some(header) = header {
        request = request.header("authorization", header);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let denied = check(&parts, STAMP, "").unwrap_err();
    assert_eq!(denied.kind(), kind, "{denied}");
    assert!(denied.to_string().contains(words), "{denied}");
}

#[test]
fn what_is_no_signature_is_told_so() {
    let header = |text: &str| {
        let fields = format!(
            "Credential={KEY}/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date"
        );
        text.replace("FIELDS", &fields).replace("HEX", &"ab".repeat(32))
    };
    let check = |text: &str, kind, words| check_denied("/", Some(&header(text)), kind, words);
    check_denied("/", None, "MissingAuthenticationTokenException", "Missing Authentication Token");
    let incomplete = "IncompleteSignatureException";
    check("Bearer me", incomplete, "Unsupported AWS 'algorithm': 'Bearer'");
    check("AWS4-HMAC-SHA256 FIELDS", incomplete, "requires 'Signature' parameter");
    check(
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=HEX",
        incomplete,
        "5 slash-delimited",
    );
    let invalid = "InvalidSignatureException";
    check("AWS4-HMAC-SHA256 FIELDS, Signature=HEX", invalid, "does not match the signature you provided");
    check("AWS4-HMAC-SHA256 FIELDS, Signature=abc", invalid, "does not match the signature you provided");
    let scope = "Credential=AKIDEXAMPLE/20150831/us-east-1/service/aws4_request";
    check(
        &format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=HEX"),
        invalid,
        "'20150831' != '20150830'",
    );
    let scope = "Credential=AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request";
    check(
        &format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=HEX"),
        invalid,
        "scoped to correct service",
    );
    let query = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256";
    check_denied(query, None, incomplete, "must include 'X-Amz-Expires'");
    check_denied(query, Some(&header("AWS4-HMAC-SHA256 FIELDS")), incomplete, "in more than one place");
    check_denied(&format!("{query}&X-Amz-Expires=604801"), None, incomplete, "between 1 and 604800");
}
