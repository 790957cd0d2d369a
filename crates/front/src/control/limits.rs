//! What the live server keeps to beside code: provisioned concurrency by version, and what becomes of events.

use std::collections::BTreeMap;
use std::time::Duration;

use catalogue::{AliasRecord, EventInvokeRecord, LATEST, Look, ProvisionedRecord, StoreError, VersionRecord};
use events::{EventConfig, Target};
use protocol::FunctionName;
use tokio::runtime::Handle;

use super::{Control, live};
use crate::aws_error::AwsError;
use crate::catalogue::Version;
use crate::event_queue;
use crate::limits::LimitError;

/// How many sandboxes of each version are to be kept ready; 0 for those of which none are. What is provisioned of an
/// alias is of the version that it stands for.
pub(super) fn wanted(look: &impl Look, name: &FunctionName) -> Result<BTreeMap<Version, usize>, StoreError> {
    let versions = look.of::<VersionRecord>(name)?;
    let mut wanted: BTreeMap<Version, usize> =
        versions.iter().filter_map(|(number, _)| Some((live::version(number)?, 0))).collect();
    for (qualifier, record) in look.of::<ProvisionedRecord>(name)? {
        let alias = look.get::<AliasRecord>(name, &qualifier)?;
        let number = alias.map_or(qualifier, |alias| alias.version);
        if let Some(count) = live::version(&number).and_then(|version| wanted.get_mut(&version)) {
            *count += record.count as usize;
        }
    }
    Ok(wanted)
}

impl Control {
    /// Has the live server follow the records of a function.
    pub(super) fn settle(&self, name: &FunctionName) {
        if let Err(error) = self.store.read().map_err(AwsError::from).and_then(|reader| {
            self.provision(&reader, name)?;
            for (number, _) in reader.of::<VersionRecord>(name)? {
                self.follow_events(&reader, name, &number)?;
            }
            for (alias, _) in reader.of::<AliasRecord>(name)? {
                self.follow_events(&reader, name, &alias)?;
            }
            Ok(())
        }) {
            tracing::error!(%name, ?error, "what was configured cannot be followed");
        }
    }

    /// Keeps as many sandboxes ready as the records say; those that become fewer first, to make room.
    pub(super) fn provision(&self, look: &impl Look, name: &FunctionName) -> Result<(), AwsError> {
        let mut wanted: Vec<_> = wanted(look, name)?.into_iter().collect();
        wanted.sort_by_key(|(_, count)| *count);
        for (version, count) in wanted {
            Handle::current().block_on(self.deployer.provision(name, version, count))?;
        }
        Ok(())
    }

    /// What becomes of the events of one version or alias.
    pub(super) fn follow_events(
        &self,
        look: &impl Look,
        name: &FunctionName,
        qualifier: &str,
    ) -> Result<(), StoreError> {
        let record = look.get::<EventInvokeRecord>(name, qualifier)?.unwrap_or_default();
        let alias = look.get::<AliasRecord>(name, qualifier)?;
        let number = alias.map_or_else(|| qualifier.to_owned(), |alias| alias.version);
        let dead_letter = look.get::<VersionRecord>(name, &number)?.and_then(|version| version.dead_letter);
        let target = |text: &Option<String>| text.as_deref().and_then(|text| event_queue::parse(text).ok());
        let default = EventConfig::default();
        let config = EventConfig {
            retries: record.retries.unwrap_or(default.retries),
            max_age: record.maximum_age_s.map_or(default.max_age, |s| Duration::from_secs(s.into())),
            on_success: target(&record.on_success),
            on_failure: target(&record.on_failure),
            dead_letter: target(&dead_letter),
        };
        self.events.set(name.clone(), Some(qualifier).filter(|qualifier| *qualifier != LATEST), config);
        Ok(())
    }

    /// Whether events can go there.
    pub(super) fn check_destination(&self, text: &Option<String>) -> Result<(), AwsError> {
        let Some(text) = text else { return Ok(()) };
        let checked = event_queue::parse(text).and_then(|target: Target| self.destinations.check(&target));
        checked.map_err(|error| AwsError::invalid(&format!("The destination ARN {text} is invalid: {error}")))
    }
}

impl From<LimitError> for AwsError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::NoVersion => AwsError::not_found(error.to_string()),
            error => AwsError::invalid(&error.to_string()),
        }
    }
}
