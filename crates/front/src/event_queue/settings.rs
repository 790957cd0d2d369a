//! `[events]` in `function.toml`.

use std::path::Path;
use std::time::Duration;

use events::{AGE_MAX, AGE_MIN, EventConfig, RETRIES_MAX};
use serde::Deserialize;

use super::configs::parse;
use crate::CatalogueError;

/// What becomes of asynchronous invocations; destinations as text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EventsToml {
    retries: u32,
    max_age_s: u64,
    on_success: Option<String>,
    on_failure: Option<String>,
    dead_letter: Option<String>,
}

impl Default for EventsToml {
    fn default() -> Self {
        let EventConfig { retries, max_age, .. } = EventConfig::default();
        Self { retries, max_age_s: max_age.as_secs(), on_success: None, on_failure: None, dead_letter: None }
    }
}

impl EventsToml {
    /// Checked, and with the destinations read. `path`: the file, for errors.
    pub(crate) fn resolve(&self, path: &Path) -> Result<EventConfig, CatalogueError> {
        let refused = |key: &str, why: String| CatalogueError::Value {
            path: path.to_owned(),
            key: format!("events.{key}"),
            why,
        };
        let target = |key: &str, text: &Option<String>| {
            let target = text.as_deref().map(parse).transpose();
            target.map_err(|error| refused(key, error.to_string()))
        };
        if self.retries > RETRIES_MAX {
            return Err(refused("retries", format!("must be between 0 and {RETRIES_MAX}")));
        }
        let (min, max) = (AGE_MIN.as_secs(), AGE_MAX.as_secs());
        if !(min..=max).contains(&self.max_age_s) {
            return Err(refused("max_age_s", format!("must be between {min} and {max}")));
        }
        Ok(EventConfig {
            retries: self.retries,
            max_age: Duration::from_secs(self.max_age_s),
            on_success: target("on_success", &self.on_success)?,
            on_failure: target("on_failure", &self.on_failure)?,
            dead_letter: target("dead_letter", &self.dead_letter)?,
        })
    }
}
