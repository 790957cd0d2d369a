//! Provisioned concurrency, by version: what the records say, and the live server that follows.

use std::collections::BTreeMap;

use catalogue::{AliasRecord, Look, ProvisionedRecord, StoreError, VersionRecord};
use protocol::FunctionName;
use tokio::runtime::Handle;

use super::Control;
use crate::aws_error::AwsError;
use crate::catalogue::Version;
use crate::promises::LimitError;

/// How many sandboxes of each version are to be kept ready; 0 for those of which none are. What is provisioned of an
/// alias is of the version that it stands for.
pub(super) fn wanted(look: &impl Look, name: &FunctionName) -> Result<BTreeMap<Version, usize>, StoreError> {
    let versions = look.qualifiers::<VersionRecord>(name)?;
    let mut wanted: BTreeMap<Version, usize> =
        versions.iter().filter_map(|number| Some((Version::read(number)?, 0))).collect();
    for (qualifier, record) in look.of::<ProvisionedRecord>(name)? {
        let alias = look.get::<AliasRecord>(name, &qualifier)?;
        let number = alias.map_or(qualifier, |alias| alias.version);
        if let Some(count) = Version::read(&number).and_then(|version| wanted.get_mut(&version)) {
            *count += record.count as usize;
        }
    }
    Ok(wanted)
}

impl Control {
    /// Has the live server follow the records of a function.
    pub(super) fn settle(&self, name: &FunctionName) {
        let wanted = self.store.read().and_then(|reader| wanted(&reader, name)).map_err(AwsError::from);
        let settled = wanted
            .and_then(|wanted| Ok(Handle::current().block_on(self.deployer.provision_all(name, &wanted))?));
        if let Err(error) = settled {
            tracing::error!(%name, ?error, "what was configured cannot be followed");
        }
    }

    /// Fails if the records ask for more sandboxes than may be kept ready.
    pub(super) fn check_provision(&self, look: &impl Look, name: &FunctionName) -> Result<(), AwsError> {
        let wanted = wanted(look, name)?;
        Ok(self.deployer.check(|promises| promises.provision_all(name, &wanted))?)
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
