//! The few things that dispatch asks of a node, as a trait. The node itself is the one implementation that
//! counts; the double in the tests is for faults that real sandboxes cannot be made to show: a sleep refused, a
//! wake that fails, a sandbox that dies between two calls.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use node::{
    CheckError, Exit, LaunchError, LaunchSpec, Node, Peer, Sandbox, SleepError, Sockets, WakeError, Witness,
};
use protocol::{CheckRecord, NodeRecord, Refused, SandboxId, SandboxRecord, SleepRecord, State, WakeRecord};

/// Work that a sandbox's driver does.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A node, as dispatch sees it. For what each call means see `node::Node`.
pub(crate) trait NodeHands: Send + Sync + 'static {
    fn launch(&self, spec: LaunchSpec) -> Result<Arc<dyn SandboxHands>, LaunchError>;
    fn sandboxes(&self) -> Vec<SandboxRecord>;
    fn sandbox(&self, id: SandboxId) -> Option<Arc<dyn SandboxHands>>;
    fn is_of_cell(&self, from: SocketAddr, to: SocketAddr) -> io::Result<bool>;
    fn record(&self) -> NodeRecord;
    fn not_ready(&self) -> Option<String>;
}

/// A sandbox, as dispatch sees it. For what each call means see `node::Sandbox`.
pub(crate) trait SandboxHands: Send + Sync + 'static {
    fn id(&self) -> SandboxId;
    fn take_sockets(&self) -> Option<Sockets>;
    fn peer(&self, witness: &Witness, from: SocketAddr, to: SocketAddr) -> io::Result<Peer>;
    fn mark_ready(&self) -> Result<(), Refused>;
    fn begin_invocation(&self) -> Result<(), Refused>;
    fn end_invocation(&self) -> Result<(), Refused>;
    fn sleep(&self) -> Work<Result<SleepRecord, SleepError>>;
    fn wake(&self) -> Work<Result<Option<WakeRecord>, WakeError>>;
    fn check(&self) -> Work<Result<CheckRecord, CheckError>>;
    fn purge(&self);
    fn peak_bytes(&self) -> u64;
    fn exit(&self) -> Work<Exit>;
    fn state(&self) -> State;
    fn record(&self) -> SandboxRecord;
}

impl NodeHands for Node {
    fn is_of_cell(&self, from: SocketAddr, to: SocketAddr) -> io::Result<bool> {
        Node::is_of_cell(self, from, to)
    }

    fn launch(&self, spec: LaunchSpec) -> Result<Arc<dyn SandboxHands>, LaunchError> {
        Ok(Arc::new(Node::launch(self, spec)?))
    }

    fn sandboxes(&self) -> Vec<SandboxRecord> {
        Node::sandboxes(self).iter().map(Sandbox::record).collect()
    }

    fn sandbox(&self, id: SandboxId) -> Option<Arc<dyn SandboxHands>> {
        Some(Arc::new(Node::sandbox(self, id)?))
    }

    fn record(&self) -> NodeRecord {
        Node::record(self)
    }

    fn not_ready(&self) -> Option<String> {
        Node::not_ready(self)
    }
}

impl SandboxHands for Sandbox {
    fn id(&self) -> SandboxId {
        Sandbox::id(self)
    }

    fn take_sockets(&self) -> Option<Sockets> {
        Sandbox::take_sockets(self)
    }

    fn peer(&self, witness: &Witness, from: SocketAddr, to: SocketAddr) -> io::Result<Peer> {
        Sandbox::peer(self, witness, from, to)
    }

    fn mark_ready(&self) -> Result<(), Refused> {
        Sandbox::mark_ready(self)
    }

    fn begin_invocation(&self) -> Result<(), Refused> {
        Sandbox::begin_invocation(self)
    }

    fn end_invocation(&self) -> Result<(), Refused> {
        Sandbox::end_invocation(self)
    }

    fn sleep(&self) -> Work<Result<SleepRecord, SleepError>> {
        let sandbox = self.clone();
        begin(async move { Sandbox::sleep(&sandbox).await })
    }

    fn wake(&self) -> Work<Result<Option<WakeRecord>, WakeError>> {
        let sandbox = self.clone();
        begin(async move { Sandbox::wake(&sandbox).await })
    }

    fn check(&self) -> Work<Result<CheckRecord, CheckError>> {
        let sandbox = self.clone();
        begin(async move { Sandbox::check(&sandbox).await })
    }

    fn purge(&self) {
        Sandbox::purge(self);
    }

    fn peak_bytes(&self) -> u64 {
        Sandbox::peak_bytes(self)
    }

    fn exit(&self) -> Work<Exit> {
        let sandbox = self.clone();
        Box::pin(async move { Sandbox::exit(&sandbox).await })
    }

    fn state(&self) -> State {
        Sandbox::state(self)
    }

    fn record(&self) -> SandboxRecord {
        Sandbox::record(self)
    }
}

/// Starts work now instead of when it is first waited for: commands reach the sandbox in the order of the calls. A
/// wake that overtook the sleep it is to break off would find the sandbox awake, and leave it to fall asleep.
fn begin<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Work<T> {
    let mut work = Box::pin(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Box::pin(std::future::ready(done)),
        Poll::Pending => work, // Whoever waits for it polls it again, with a waker that wakes.
    }
}
