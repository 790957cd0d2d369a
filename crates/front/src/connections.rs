//! Connections of clients and of sandboxes: how many there are, and how long a client may take to say what it wants and to
//! hear what it gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::hands::NodeHands;

/// How long a connection may stand open without the whole head of a request: between two requests, too.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// How long a client may take nothing of an answer, or of a piece of one, that waits for it.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Connections at once. Others wait until one of these is closed.
const CONNECTIONS_MAX: usize = 16 * 1024;

/// Connections of one sandbox at once; runtimes and extensions have one or two each.
const SANDBOX_CONNECTIONS_MAX: usize = 256;

/// How long nobody is let in when the system has no files left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// No function in a cell.
    Other,
    /// A function in a cell, or nobody can say.
    Function,
}

/// Asked once for each connection.
type Node = Option<Arc<dyn NodeHands>>;

async fn caller(node: Node, stream: &TcpStream, from: SocketAddr) -> Caller {
    let Some(node) = node else { return Caller::Other };
    let Ok(to) = stream.local_addr() else { return Caller::Function };
    match tokio::task::spawn_blocking(move || node.is_of_cell(from, to)).await {
        Ok(Ok(false)) => Caller::Other,
        Ok(Ok(true)) => Caller::Function,
        Ok(Err(error)) => {
            tracing::warn!(%from, %error, "the kernel does not say whose a connection is");
            Caller::Function
        }
        Err(_) => Caller::Function, // The server is ending.
    }
}

/// Serves until it is to stop, and then until what is under way is answered. Dropping it cuts everybody off.
pub(crate) async fn serve(listener: TcpListener, router: Router, node: Node, stopped: watch::Receiver<bool>) {
    break_off_after(&listener, UNREAD_MAX);
    serve_on(listener, router, node, stopped).await;
}

async fn serve_on(listener: TcpListener, router: Router, node: Node, stopped: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let mut stop = std::pin::pin!(ended(stopped.clone()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, service.clone(), node.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A client that takes nothing for so long is cut off by the kernel, for connections have what their listener has: a full
/// buffer there is news to nobody here, and a timer of our own would be one for each answer.
fn break_off_after(listener: &TcpListener, unread_max: Duration) {
    let millis = unread_max.as_millis().try_into().unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(listener, millis) {
        tracing::warn!(%error, "clients that do not read are waited for: TCP_USER_TIMEOUT");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: TowerToHyperService<Router>,
    node: Node,
    stopped: watch::Receiver<bool>,
) {
    // Head and body are two writes: Nagle's algorithm would hold the second back for 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let caller = caller(node, &stream, peer).await; // Before anything of it is read.
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(caller);
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = ended(stopped) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// Serves one sandbox, which may be put to sleep in the middle of anything: it has as long as it takes. Once it has
/// stopped, what it has sent is still read to its end. Dropping it cuts everybody off.
pub(crate) async fn serve_sandbox<L: Listener>(
    mut listener: L,
    router: Router,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(ended(stopped));
    let service = TowerToHyperService::new(router);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, _) = listener.accept(), if connections.len() < SANDBOX_CONNECTIONS_MAX => {
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                connections.spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::debug!(%error, "a sandbox' connection broke");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Resolves when the server is to stop, or was dropped.
pub(crate) async fn ended(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;
    use tokio::time::timeout;

    use super::*;
    use crate::asking::{WAIT_MAX, ask};
    use crate::room::Room;

    const PAUSE: Duration = Duration::from_millis(5);

    /// More than the kernel takes on both sides.
    const UNREAD_BYTES: usize = 32 << 20;

    /// A client that asks for this, with a small buffer, and does not read what comes.
    async fn ask_and_not_read(addr: SocketAddr, path: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(addr).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn whoever_does_not_read_is_cut_off_and_others_are_served() {
        let room = Room::of(4 * UNREAD_BYTES);
        let (whole, pieces) = (room.clone(), room.clone());
        let router = Router::new()
            .route("/whole", get(async move || whole.enter().unwrap().hold(vec![b'x'; UNREAD_BYTES].into())))
            .route(
                "/pieces",
                get(async move || {
                    let place = pieces.enter().unwrap().instead(UNREAD_BYTES);
                    Body::from_stream(stream::repeat_with(move || {
                        let _until_it_is_dropped = &place;
                        Ok::<_, Infallible>(vec![b'x'; 64 << 10])
                    }))
                }),
            )
            .route("/brief", get(async || "brief"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        break_off_after(&listener, Duration::from_millis(500));
        tokio::spawn(serve_on(listener, router, None, stopped));
        let free = room.free();
        let mut unread = [ask_and_not_read(addr, "/whole").await, ask_and_not_read(addr, "/pieces").await];
        let waiting = async || {
            while room.free() > free - 2 * UNREAD_BYTES {
                tokio::time::sleep(PAUSE).await
            }
        };
        timeout(WAIT_MAX, waiting()).await.expect("nobody waits");
        assert_eq!(ask(addr, "GET /brief", &[("host", "x")], "").await.text.unwrap(), "brief");
        let given_back = async || {
            while room.free() < free {
                tokio::time::sleep(PAUSE).await
            }
        };
        timeout(WAIT_MAX, given_back()).await.expect("they are still waited for");
        for stream in &mut unread {
            let mut seen = Vec::new();
            let ended = timeout(WAIT_MAX, stream.read_to_end(&mut seen)).await.expect("it is still open");
            assert!(ended.is_err() || seen.len() < UNREAD_BYTES);
        }
        assert_eq!(ask(addr, "GET /brief", &[("host", "x")], "").await.text.unwrap(), "brief");
    }

    /// What comes back on a connection on which this is sent, until it is closed.
    async fn answer_to(sent: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let router =
            Router::new().fallback(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string());
        tokio::spawn(serve(listener, router, None, stopped));
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_it_wants_is_not_waited_for() {
        for sent in ["", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            assert!(!answer_to(sent).await.contains("200 OK"), "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_not_used_any_more_is_closed() {
        let seen = answer_to("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(seen.starts_with("HTTP/1.1 200 OK") && seen.ends_with("127.0.0.1"), "{seen}");
    }
}
