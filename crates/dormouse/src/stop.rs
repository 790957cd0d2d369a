//! Being asked to stop. Ctrl-C and SIGTERM set a flag; whoever works looks at it between two steps and returns, so
//! that everything that must be undone is undone by `Drop`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Whether we were asked to stop. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    flag: AtomicBool,
    changed: Notify,
}

impl Stop {
    /// Starts to listen, on the threads of `runtime`. From here on Ctrl-C does not end the program by itself.
    pub(crate) fn listen(runtime: &Handle) -> io::Result<Stop> {
        let stop = Stop::default();
        let _entered = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signals, stop) = (signal(kind)?, stop.clone());
            runtime.spawn(async move {
                signals.recv().await;
                stop.0.flag.store(true, Ordering::Relaxed);
                stop.0.changed.notify_waiters();
            });
        }
        Ok(stop)
    }

    /// Whether somebody asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.flag.load(Ordering::Relaxed)
    }

    /// Until somebody asks.
    pub(crate) async fn wait(&self) {
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable(); // From here on nothing is missed.
        if !self.is_asked() {
            changed.await;
        }
    }
}
