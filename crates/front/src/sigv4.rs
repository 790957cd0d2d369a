//! Amazon's Signature Version 4, the checking side: who says that he signed this request, when, and whether he did.
//! In the `Authorization` header, or in the query of a presigned address.

mod canonical;

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use sha2::{Digest, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How far the clocks of client and server may lie apart.
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// A presigned address holds a week at most.
const EXPIRES_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A request is not who it says it is from, or does not say. The words are Amazon's: tools and people know them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("Missing Authentication Token")]
    Missing,
    #[error("{0}")]
    Incomplete(String),
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    #[error("{0}")]
    Invalid(String),
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

impl Denied {
    /// Amazon's name for it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Denied::Missing => "MissingAuthenticationTokenException",
            Denied::Incomplete(_) => "IncompleteSignatureException",
            Denied::UnknownKey => "UnrecognizedClientException",
            Denied::Invalid(_) | Denied::Mismatch => "InvalidSignatureException",
        }
    }
}

/// What a request says about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    key_id: String,
    /// `DATE/REGION/SERVICE/aws4_request`, as it was signed.
    scope: [String; 3],
    signed_headers: Vec<String>,
    signature: [u8; 32],
    /// When it was signed, `20150830T123600Z`.
    stamp: String,
    at: SystemTime,
    /// How long a presigned address holds.
    expires: Option<Duration>,
}

impl Claim {
    /// Reads it from the header, or else from the query.
    pub(crate) fn read(parts: &Parts) -> Result<Claim, Denied> {
        let header = parts.headers.get_all(http::header::AUTHORIZATION).iter().collect::<Vec<_>>();
        let presigned = canonical::parameter(parts, "X-Amz-Algorithm");
        match (header.as_slice(), presigned) {
            ([], None) => Err(Denied::Missing),
            ([header], None) => {
                let text = header.to_str().map_err(|_| incomplete("the Authorization header is not text"))?;
                Claim::from_header(parts, text)
            }
            ([], Some(algorithm)) => Claim::from_query(parts, &algorithm),
            _ => Err(incomplete("the request is signed in more than one place")),
        }
    }

    fn from_header(parts: &Parts, text: &str) -> Result<Claim, Denied> {
        let (algorithm, fields) = text.split_once(' ').unwrap_or((text, ""));
        check_algorithm(algorithm)?;
        let fields: Vec<_> = fields.split(',').filter_map(|field| field.trim().split_once('=')).collect();
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            found.ok_or_else(|| {
                Denied::Incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        let stamp = parts.headers.get("x-amz-date").and_then(|value| value.to_str().ok());
        let stamp = stamp.ok_or_else(|| {
            incomplete("Authorization header requires existence of an 'X-Amz-Date' header.")
        })?;
        Claim::new(&field("Credential")?, &field("SignedHeaders")?, &field("Signature")?, stamp, None)
    }

    fn from_query(parts: &Parts, algorithm: &str) -> Result<Claim, Denied> {
        check_algorithm(algorithm)?;
        let field = |name: &str| {
            let missing =
                || Denied::Incomplete(format!("AWS query-string parameters must include '{name}'."));
            canonical::parameter(parts, name).ok_or_else(missing)
        };
        let expires = field("X-Amz-Expires")?.parse().ok().map(Duration::from_secs);
        let expires = expires.filter(|expires| (Duration::from_secs(1)..=EXPIRES_MAX).contains(expires));
        let expires =
            expires.ok_or_else(|| incomplete("X-Amz-Expires must be between 1 and 604800 seconds"))?;
        let (credential, headers) = (field("X-Amz-Credential")?, field("X-Amz-SignedHeaders")?);
        Claim::new(&credential, &headers, &field("X-Amz-Signature")?, &field("X-Amz-Date")?, Some(expires))
    }

    fn new(
        credential: &str,
        headers: &str,
        signature: &str,
        stamp: &str,
        expires: Option<Duration>,
    ) -> Result<Claim, Denied> {
        let [key_id, date, region, service, "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..]
        else {
            let what = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term";
            return Err(Denied::Incomplete(format!("{what}, got '{credential}'")));
        };
        let at = parse_stamp(stamp);
        Ok(Claim {
            key_id: key_id.to_owned(),
            scope: [date, region, service].map(str::to_owned),
            signed_headers: headers.split(';').map(str::to_owned).collect(),
            signature: unhex(signature).ok_or(Denied::Mismatch)?,
            stamp: stamp.to_owned(),
            at: at.ok_or_else(|| {
                incomplete("Date must be in ISO-8601 'basic format', like 20150830T123600Z")
            })?,
            expires,
        })
    }

    /// Whose signature it says it is.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Whether it is for this service, and was made not long ago. The region is the client's own affair: here is one.
    pub(crate) fn check_scope(&self, service: &str, now: SystemTime) -> Result<(), Denied> {
        let [date, _, signed_for] = &self.scope;
        if signed_for != service {
            let what = format!("Credential should be scoped to correct service: '{service}'. ");
            return Err(Denied::Invalid(what));
        }
        if self.stamp.get(..8) != Some(date) {
            return Err(Denied::Invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{date}' != '{}', from '{}'.",
                self.stamp.get(..8).unwrap_or_default(),
                self.stamp
            )));
        }
        let (earliest, latest) = (now - SKEW_MAX, now + SKEW_MAX);
        let (stamp, now) = (&self.stamp, format_stamp(now));
        if self.at > latest {
            let latest = format_stamp(latest);
            let what =
                format!("Signature not yet current: {stamp} is still later than {latest} ({now} + 5 min.)");
            return Err(Denied::Invalid(what));
        }
        let expired = match self.expires {
            Some(expires) => format_later(self.at + expires, &now),
            None => (self.at < earliest).then(|| format!("{} ({now} - 5 min.)", format_stamp(earliest))),
        };
        match expired {
            Some(than) => {
                Err(Denied::Invalid(format!("Signature expired: {stamp} is now earlier than {than}")))
            }
            None => Ok(()),
        }
    }

    /// Whether whoever knows `secret` has signed this request with a body of this SHA-256.
    pub(crate) fn verify(&self, parts: &Parts, body: &[u8; 32], secret: &str) -> Result<(), Denied> {
        let canonical = canonical::request(parts, &self.signed_headers, &hex(body))?;
        let [date, region, service] = &self.scope;
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let digest = hex(&Sha256::digest(canonical.as_bytes()).into());
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{digest}", self.stamp);
        let mut key = sign(format!("AWS4{secret}").as_bytes(), date).finalize().into_bytes();
        for step in [region, service, "aws4_request"] {
            key = sign(&key, step).finalize().into_bytes();
        }
        // In constant time: how long it takes must not tell how much of a forged signature is right.
        sign(&key, &to_sign).verify_slice(&self.signature).map_err(|_| Denied::Mismatch)
    }
}

/// The SHA-256 of a body, as it is signed.
pub(crate) fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

fn sign(key: &[u8], text: &str) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "a key of any length is a key")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac
}

fn check_algorithm(algorithm: &str) -> Result<(), Denied> {
    if algorithm == ALGORITHM {
        return Ok(());
    }
    Err(Denied::Incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}', use {ALGORITHM}.")))
}

fn incomplete(what: &str) -> Denied {
    Denied::Incomplete(what.to_owned())
}

/// `until`, where it has passed.
fn format_later(until: SystemTime, now: &str) -> Option<String> {
    (format_stamp(until).as_str() < now).then(|| format!("{now} (it held until {})", format_stamp(until)))
}

/// `20150830T123600Z`, to the second; these texts sort like the times.
fn format_stamp(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().replace(['-', ':'], "")
}

fn parse_stamp(stamp: &str) -> Option<SystemTime> {
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let is_digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(date, 8) || !is_digits(time, 6) {
        return None;
    }
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    let (hour, minute, second) = (&time[..2], &time[2..4], &time[4..]);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2).filter(|_| is_hex)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
