//! The start: what is on disk goes live, before the door opens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use catalogue::{
    AliasRecord, All, CatalogueStore, Damaged, FunctionRecord, Look as _, PackageError, PackageId, Packages,
    ProvisionedRecord, Record, StoreError, TreeError, Trees, UrlRecord, VersionRecord,
};
use protocol::FunctionName;
use tokio::sync::Semaphore;

use super::leases::Leases;
use super::{CALLS_MAX, Control, ROOM_BYTES, live, provisioned};
use crate::catalogue::Version;
use crate::deploy::Deployer;
use crate::event_queue::{Destinations, EventConfigs};
use crate::function_toml::Runtime;
use crate::function_url::FunctionUrl;
use crate::functions::{Catalogue, CatalogueError, Function};
use crate::isolation::{Networks, NoNetwork};
use crate::room::Room;

/// The catalogue of deployed functions cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeployedError {
    /// The records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The packages.
    #[error("keep packages")]
    Packages(#[from] PackageError),
    /// Their trees.
    #[error("keep packages unpacked")]
    Trees(#[from] TreeError),
    /// One name, two functions.
    #[error(
        "the function {name} is both deployed and in the folder {root:?}: rename the folder, or remove the deployed one \
         with `dormouse rm {name}` on a server without that folder"
    )]
    Twice {
        /// The name.
        name: FunctionName,
        /// The folder.
        root: PathBuf,
    },
}

/// One version cannot be served; the others can.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Function(#[from] CatalogueError),
    #[error(transparent)]
    Network(#[from] NoNetwork),
}

impl Control {
    /// Opens what is in the data directory, and has it answer. `folders`: functions that are served from folders.
    pub(crate) async fn open(
        data_dir: &Path,
        region: &str,
        url_host: String,
        folders: &Catalogue,
        deployer: Deployer,
        networks: Networks,
        (folder_events, destinations): (EventConfigs, Destinations),
    ) -> Result<Arc<Control>, DeployedError> {
        let (leases, ended) = Leases::new();
        let control = Control {
            store: CatalogueStore::open(&data_dir.join("catalogue.redb"))?,
            packages: Packages::open(&data_dir.join("packages"))?,
            trees: Trees::open(&data_dir.join("trees"))?,
            leases,
            deployer,
            networks,
            folder_events,
            destinations,
            folders: folders.iter().map(|function| (function.name.clone(), of_folder(function))).collect(),
            region: region.to_owned(),
            url_host,
            urls: RwLock::default(),
            room: Room::of(ROOM_BYTES),
            permits: Arc::new(Semaphore::new(CALLS_MAX)),
            turn: Mutex::default(),
            unserved: Mutex::default(),
        };
        let versions = control.all::<VersionRecord>()?;
        for function in folders.iter() {
            if control.store.read()?.has::<FunctionRecord>(&function.name, "")? {
                return Err(DeployedError::Twice {
                    name: function.name.clone(),
                    root: function.root.clone(),
                });
            }
        }
        if versions.damaged.is_empty() {
            control.sweep(&versions.records).await?; // Else nobody knows which packages are still wanted.
        }
        let functions = control.all::<FunctionRecord>()?;
        control.revive_versions(versions, &functions.damaged).await;
        for (name, alias, record) in control.all::<AliasRecord>()?.records {
            if let Some(stands_for) = live::alias_of(&record) {
                control.deployer.put_alias(&name, alias, stands_for);
            }
        }
        control.all::<ProvisionedRecord>()?; // For the log.
        control.revive_limits(functions.records).await?;
        for (name, qualifier, record) in control.all::<UrlRecord>()?.records {
            control.apply(live::url_effect(&name, &qualifier, &record));
        }
        for function in folders.iter() {
            if let Some(settings) = function.url.clone() {
                // The id of a function from a folder is its name.
                let url = FunctionUrl { function: function.name.clone(), qualifier: None, settings };
                control.apply(live::Effect::PutUrl { id: function.name.to_string(), url });
            }
        }
        let control = Arc::new(control);
        control.collect_code(ended);
        Ok(control)
    }

    /// All records of one kind. One that cannot be read must not keep the others from being served.
    fn all<R: Record>(&self) -> Result<All<R>, StoreError> {
        let all = self.store.read()?.all::<R>()?;
        for Damaged { function, qualifier, error } in &all.damaged {
            tracing::error!(
                kind = R::KIND,
                %function,
                %qualifier,
                %error,
                "a record is passed over, and stays as it is: restore catalogue.redb from a backup, use the dormouse \
                 that wrote it, or remove the function and deploy it again"
            );
        }
        Ok(all)
    }

    /// Has all versions answer, but for those of functions of which too little is known.
    async fn revive_versions(&self, versions: All<VersionRecord>, functions: &[Damaged]) {
        for Damaged { function, qualifier, error } in versions.damaged {
            if let Ok(name) = function.parse() {
                self.cannot_serve(&name, &qualifier, error.to_string());
            }
        }
        for (name, number, record) in versions.records {
            let damaged = functions.iter().find(|damaged| damaged.function == name.as_str());
            let revived = match damaged {
                Some(damaged) => Err(damaged.error.to_string()),
                None => self.revive(&name, &number, &record).await.map_err(|error| error.to_string()),
            };
            if let Err(error) = revived {
                tracing::error!(%name, version = number, %error, "a deployed function cannot be served");
                self.cannot_serve(&name, &number, error);
            }
        }
    }

    /// Reserved and provisioned concurrency.
    async fn revive_limits(
        &self,
        functions: Vec<(FunctionName, String, FunctionRecord)>,
    ) -> Result<(), DeployedError> {
        let reader = self.store.read()?;
        for (name, _, function) in functions {
            let reserved = function.reserved_concurrency.map(|n| n as usize);
            if let Err(error) = self.deployer.reserve(&name, reserved).await {
                tracing::error!(%name, %error, "reserved concurrency");
            }
            let wanted = match provisioned::wanted(&reader, &name) {
                Err(error) if error.is_of_record() => continue, // The log has it.
                wanted => wanted?,
            };
            if let Err(error) = self.deployer.provision_all(&name, &wanted).await {
                tracing::error!(%name, %error, "provisioned concurrency");
            }
        }
        Ok(())
    }

    async fn sweep(&self, versions: &[(FunctionName, String, VersionRecord)]) -> Result<(), DeployedError> {
        let named: BTreeSet<PackageId> = versions.iter().map(|(_, _, record)| record.package).collect();
        self.packages.sweep(|id| named.contains(id)).await?;
        self.trees.sweep(|id| named.contains(id))?;
        Ok(())
    }

    async fn revive(&self, name: &FunctionName, number: &str, record: &VersionRecord) -> Result<(), Broken> {
        let lease = self.leases.take(&record.package);
        let tree = match self.trees.find(&record.package) {
            Some(tree) => tree,
            None => {
                let package = self.packages.get(&record.package).await?;
                self.trees.unpack(&record.package, &package)? // Blocks: nobody else is served yet.
            }
        };
        let function = live::function(name, record, &tree, &lease)?;
        self.networks.check(&function)?;
        if let Some(version) = Version::read(number) {
            self.deployer.put(version, live::at_version(version, function)).await;
        }
        Ok(())
    }
}

/// A function from a folder, in the words of those that were deployed.
fn of_folder(function: &Function) -> VersionRecord {
    let runtime = match function.runtime {
        Runtime::Python => "python3",
        Runtime::NodeJs => "nodejs20.x",
        Runtime::Provided => "provided.al2023",
    };
    VersionRecord {
        etag: function.digest.clone(),
        modified_ms: super::now_ms(),
        package: PackageId::of(function.digest.as_bytes()), // There is no zip; it changes when the code does.
        package_bytes: 0,
        runtime: runtime.to_owned(),
        handler: function.handler.clone(),
        role: super::settings::NO_ROLE.to_owned(),
        description: format!("From the folder {}", function.root.display()),
        timeout_s: function.timeout.as_secs_f64().ceil() as u32,
        memory_mb: function.memory_mb as u32,
        tmp_mb: function.tmp_mb as u32,
        environment: function.environment.clone(),
        architecture: super::settings::ARCHITECTURE.to_owned(),
        snap_start: function.snap_start,
        dead_letter: None,
        told: BTreeMap::new(),
    }
}
