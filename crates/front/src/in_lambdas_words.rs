//! A folder's function in the words of Lambda's API, for whoever deploys it to a server. What Lambda has no words for
//! goes with the package, in its `function.toml`.

use events::{EventConfig, Target};
use serde_json::{Value, json};

use crate::function_toml::Runtime;
use crate::function_url::{Cors, InvokeMode, UrlAuth};
use crate::functions::Function;

/// Lambda's least `/tmp`.
const TMP_MB_MIN: u64 = 512;

impl Function {
    /// The settings, as `CreateFunction` takes them. Of dead letters only what is said, for they may be set elsewhere.
    pub fn api_settings(&self) -> Value {
        let mut settings = json!({
            "Runtime": match self.runtime {
                Runtime::Python => "python3.12",
                Runtime::NodeJs => "nodejs20.x",
                Runtime::Provided => "provided.al2023",
            },
            "Handler": self.handler,
            "MemorySize": self.memory_mb,
            "Timeout": self.timeout.as_secs_f64().ceil() as u64, // Lambda knows whole seconds.
            "Environment": { "Variables": self.environment },
            "EphemeralStorage": { "Size": self.tmp_mb.max(TMP_MB_MIN) },
            "SnapStart": { "ApplyOn": if self.snap_start { "PublishedVersions" } else { "None" } },
        });
        if let Some(target) = &self.events.dead_letter {
            settings["DeadLetterConfig"] = json!({ "TargetArn": text(target) });
        }
        settings
    }

    /// Its URL, as `CreateFunctionUrlConfig` takes it; `None`: nothing is said of one.
    pub fn api_url(&self) -> Option<Value> {
        let url = self.url.as_ref()?;
        Some(json!({
            "AuthType": match url.auth {
                UrlAuth::None => "NONE",
                UrlAuth::AwsIam => "AWS_IAM",
            },
            "InvokeMode": match url.mode {
                InvokeMode::Buffered => "BUFFERED",
                InvokeMode::ResponseStream => "RESPONSE_STREAM",
            },
            "Cors": url.cors.as_ref().map_or(json!({}), cors),
        }))
    }

    /// What becomes of its events, as `PutFunctionEventInvokeConfig` takes it; `None`: what Lambda does anyway.
    pub fn api_events(&self) -> Option<Value> {
        let EventConfig { retries, max_age, on_success, on_failure, .. } = &self.events;
        let usual = EventConfig { dead_letter: self.events.dead_letter.clone(), ..EventConfig::default() };
        let to = |target: &Option<Target>| match target {
            Some(target) => json!({ "Destination": text(target) }),
            None => json!({}),
        };
        (self.events != usual).then(|| {
            json!({
                "MaximumRetryAttempts": retries,
                "MaximumEventAgeInSeconds": max_age.as_secs(),
                "DestinationConfig": { "OnSuccess": to(on_success), "OnFailure": to(on_failure) },
            })
        })
    }
}

fn cors(cors: &Cors) -> Value {
    let mut body = json!({
        "AllowOrigins": cors.allow_origins,
        "AllowMethods": cors.allow_methods,
        "AllowHeaders": cors.allow_headers,
        "ExposeHeaders": cors.expose_headers,
        "AllowCredentials": cors.allow_credentials,
    });
    if let Some(max_age) = cors.max_age {
        body["MaxAge"] = max_age.into();
    }
    body
}

/// As `function.toml` and the API name a destination.
fn text(target: &Target) -> String {
    match target {
        Target::Function { name, qualifier: None } => name.to_string(),
        Target::Function { name, qualifier: Some(qualifier) } => format!("{name}:{qualifier}"),
        Target::File { path } => format!("file://{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_function;

    fn loaded(toml: &str) -> Function {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("f");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("lambda_function.py"), "").unwrap();
        std::fs::write(root.join("function.toml"), toml).unwrap();
        load_function(&root).unwrap()
    }

    #[test]
    fn what_a_file_does_not_say_is_not_told() {
        let plain = loaded("");
        assert_eq!((plain.api_url(), plain.api_events()), (None, None));
        assert_eq!(plain.api_settings()["SnapStart"], json!({ "ApplyOn": "None" }));
    }

    #[test]
    fn url_events_and_hooks_are_told() {
        let toml = "
            snap_start = true
            tmp_mb = 700
            [url]
            mode = 'RESPONSE_STREAM'
            cors = { allow_origins = ['*'], max_age = 7 }
            [events]
            retries = 0
            on_success = 'after:live'
            on_failure = 'file:///var/records/f'
            dead_letter = 'letters'
        ";
        let function = loaded(toml);
        let settings = function.api_settings();
        assert_eq!(settings["SnapStart"], json!({ "ApplyOn": "PublishedVersions" }));
        assert_eq!(settings["EphemeralStorage"], json!({ "Size": 700 }));
        assert_eq!(settings["DeadLetterConfig"], json!({ "TargetArn": "letters" }));
        let url = function.api_url().unwrap();
        assert_eq!((&url["AuthType"], &url["InvokeMode"]), (&json!("NONE"), &json!("RESPONSE_STREAM")));
        assert_eq!((&url["Cors"]["AllowOrigins"], &url["Cors"]["MaxAge"]), (&json!(["*"]), &json!(7)));
        let destinations = json!({
            "OnSuccess": { "Destination": "after:live" },
            "OnFailure": { "Destination": "file:///var/records/f" },
        });
        let events = json!({
            "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 21600, "DestinationConfig": destinations,
        });
        assert_eq!(function.api_events(), Some(events));
    }
}
