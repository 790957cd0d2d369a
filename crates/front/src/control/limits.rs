//! Provisioned concurrency, by version: what the records say, and the live server that follows.

use std::collections::BTreeMap;

use catalogue::{AliasRecord, Look, ProvisionedRecord, StoreError, VersionRecord};
use protocol::FunctionName;
use tokio::runtime::Handle;

use super::{Control, live};
use crate::aws_error::AwsError;
use crate::catalogue::Version;
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
        let reader = self.store.read().map_err(AwsError::from);
        if let Err(error) = reader.and_then(|reader| self.provision(&reader, name)) {
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
}

impl From<LimitError> for AwsError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::NoVersion => AwsError::not_found(error.to_string()),
            error => AwsError::invalid(&error.to_string()),
        }
    }
}
