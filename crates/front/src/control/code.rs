//! Code: zips come in, are kept, and become trees.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use catalogue::{LATEST, Look, PACKAGE_BYTES_MAX, PackageError, PackageId, TreeError, VersionRecord};
use serde::Deserialize;
use tokio::runtime::Handle;

use super::call::{Answer, Call};
use super::leases::Lease;
use super::settings::Settings;
use super::{Control, check_etag, checks, new_etag, now_ms};
use crate::aws_error::AwsError;

/// Lambda's limit for all packages of all versions.
pub(super) const STORAGE_BYTES_MAX: u64 = 75 * 1024 * 1024 * 1024;

/// Where code may come from.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Code {
    /// In base64.
    zip_file: Option<String>,
    s3_bucket: Option<String>,
    image_uri: Option<String>,
}

/// Code that is kept, and unpacked.
pub(super) struct Package {
    id: PackageId,
    bytes: u64,
    pub(super) tree: PathBuf,
    pub(super) lease: Arc<Lease>,
}

impl Package {
    /// Makes it a version's, if there is room.
    pub(super) fn put_into(
        &self,
        record: &mut VersionRecord,
        control: &Control,
        look: &impl Look,
    ) -> Result<(), AwsError> {
        if control.stored_bytes(look)? + self.bytes > STORAGE_BYTES_MAX {
            return Err(AwsError::code_storage_exceeded());
        }
        (record.package, record.package_bytes) = (self.id, self.bytes);
        Ok(())
    }
}

impl Control {
    /// Keeps the code of a request and unpacks it. What comes of it is a package that no record names yet; if none
    /// ever does, it goes.
    pub(super) fn take(&self, code: Code) -> Result<Package, AwsError> {
        if code.s3_bucket.is_some() || code.image_uri.is_some() {
            return Err(AwsError::invalid(
                "Code must come as ZipFile: there is no S3 and no image registry here.",
            ));
        }
        let text =
            code.zip_file.ok_or_else(|| AwsError::invalid("Please provide a source for function code."))?;
        let bytes = crate::base64::decode(text.as_bytes())
            .ok_or_else(|| AwsError::serialization("ZipFile is not in base64"))?;
        drop(text);
        if bytes.len() > PACKAGE_BYTES_MAX {
            return Err(AwsError::entity_too_large(PACKAGE_BYTES_MAX, "CreateFunction"));
        }
        let (id, len, bytes) = (PackageId::of(&bytes), bytes.len() as u64, Bytes::from(bytes));
        let lease = self.leases.take(&id);
        let tree = self.trees.unpack(&id, &bytes).map_err(refuse)?; // First: what cannot be used is not kept.
        Handle::current().block_on(self.packages.put(bytes)).map_err(failed)?;
        Ok(Package { id, bytes: len, tree, lease })
    }

    /// The code of a version that is there.
    pub(super) fn package_of(&self, record: &VersionRecord) -> Result<Package, AwsError> {
        let lease = self.leases.take(&record.package);
        let tree = match self.trees.find(&record.package) {
            Some(tree) => tree,
            None => {
                let bytes = Handle::current().block_on(self.packages.get(&record.package)).map_err(failed)?;
                self.trees.unpack(&record.package, &bytes).map_err(refuse)?
            }
        };
        Ok(Package { id: record.package, bytes: record.package_bytes, tree, lease })
    }

    /// Bytes of all versions' packages, as Lambda counts them: each version its own.
    pub(super) fn stored_bytes(&self, look: &impl Look) -> Result<u64, AwsError> {
        Ok(look.all::<VersionRecord>()?.records.iter().map(|(_, _, record)| record.package_bytes).sum())
    }
}

fn failed(error: PackageError) -> AwsError {
    tracing::error!(%error, "packages");
    AwsError::service(error.to_string())
}

fn refuse(error: TreeError) -> AwsError {
    match error {
        TreeError::Io { .. } => {
            tracing::error!(%error, "trees");
            AwsError::service(error.to_string())
        }
        TreeError::TooLarge { .. } => AwsError::invalid(&format!(
            "Unzipped size must be smaller than {} bytes: {error}",
            catalogue::TREE_BYTES_MAX
        )),
        _ => AwsError::invalid(&format!("Could not unzip uploaded file: {error}")),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Update {
    architectures: Option<Vec<String>>,
    publish: Option<bool>,
    dry_run: Option<bool>,
    revision_id: Option<String>,
    #[serde(flatten)]
    code: Code,
    /// Lambda takes none here. Who changes both has no moment in which one is new and the other old.
    #[serde(flatten)]
    settings: Settings,
}

pub(super) fn update(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let asked: Update = call.read()?;
    checks::architectures(asked.architectures.as_deref().unwrap_or_default())?;
    {
        let reader = control.store.read()?; // Before anything is unpacked; and again when it is written.
        control.deployed(&reader, &name)?;
        let (_, record) = control.version(&reader, &name, None)?;
        check_etag(asked.revision_id.as_deref(), &record.etag)?;
    }
    let package = control.take(asked.code)?;
    let publish = asked.publish.unwrap_or_default();
    if asked.dry_run.unwrap_or_default() {
        let reader = control.store.read()?;
        let (_, mut record) = control.version(&reader, &name, None)?;
        package.put_into(&mut record, control, &reader)?;
        return Ok(control.configuration(&name, LATEST, None, &record).into());
    }
    let (number, record) = control.change(|change| {
        control.deployed(change.writer, &name)?;
        let (_, mut record) = control.version(change.writer, &name, None)?;
        check_etag(asked.revision_id.as_deref(), &record.etag)?;
        asked.settings.apply(&mut record)?;
        control.check_dead_letter(&record)?;
        package.put_into(&mut record, control, change.writer)?;
        (record.etag, record.modified_ms) = (new_etag(), now_ms());
        super::function::make(control, change, &name, LATEST, &record, &package)?;
        if publish {
            super::version::publish_latest(control, change, &name, None)
        } else {
            Ok((LATEST.to_owned(), record))
        }
    })?;
    let qualifier = publish.then_some(number.as_str());
    Ok(control.configuration(&name, &number, qualifier, &record).into())
}
