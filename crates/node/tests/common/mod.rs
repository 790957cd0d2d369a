//! A node of a test's own, and calls that wait.

#![allow(clippy::unwrap_used, clippy::expect_used)] // The lint lets tests unwrap, but not what tests call.
#![allow(dead_code)] // Each test binary uses some of it.

use std::future::Future;

use node::{Node, NodeConfig, SleepError};
use protocol::{CheckRecord, SleepRecord, WakeRecord};
use tempfile::TempDir;
use testkit::{Specimen, Subject};

/// A node that is shut down with the test.
pub(crate) struct Bench {
    pub(crate) node: Node,
    _data_dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with(|_| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut NodeConfig)) -> Bench {
        assert!(testkit::require_root());
        // What the node logs is shown with a test that fails.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let data_dir = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::new(data_dir.path().to_owned());
        configure(&mut config);
        Bench { node: Node::start(config).unwrap(), _data_dir: data_dir }
    }

    /// Launches a subject, which is warm then.
    pub(crate) fn launch(&self, subject: &Subject) -> Specimen {
        let specimen = Specimen::launch(&self.node, subject).unwrap();
        specimen.sandbox().unwrap().mark_ready().unwrap();
        specimen
    }

    pub(crate) fn sleep(&self, specimen: &Specimen) -> SleepRecord {
        self.try_sleep(specimen).unwrap()
    }

    pub(crate) fn try_sleep(&self, specimen: &Specimen) -> Result<SleepRecord, SleepError> {
        wait(specimen.sandbox().unwrap().sleep())
    }

    pub(crate) fn wake(&self, specimen: &Specimen) -> WakeRecord {
        wait(specimen.sandbox().unwrap().wake()).unwrap().expect("it slept")
    }

    pub(crate) fn check(&self, specimen: &Specimen) -> CheckRecord {
        wait(specimen.sandbox().unwrap().check()).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.node.shutdown();
    }
}

/// Waits for one answer of a driver.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer)
}
