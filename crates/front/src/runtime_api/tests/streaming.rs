//! Answers that come piece by piece, as a runtime sends them: over one connection, by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A connection on which an invocation was taken and an answer is being sent.
struct Sending(TcpStream);

const HEAD: &str = "POST /2018-06-01/runtime/invocation/7/response HTTP/1.1\r\nHost: runtime\r\n\
    Content-Type: text/plain\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\
    Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

impl Sending {
    async fn begin(bench: &mut Bench) -> Sending {
        assert!(bench.api.offer(an_offer("7", "{}")));
        let mut client = bench.client().await;
        assert_eq!(call(&mut client, "GET", "invocation/next", Bytes::new()).await.0, 200);
        bench.ready().await;
        let mut stream = TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
        stream.write_all(HEAD.as_bytes()).await.unwrap();
        Sending(stream)
    }

    async fn piece(&mut self, piece: &[u8]) {
        self.0.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        self.0.write_all(piece).await.unwrap();
        self.0.write_all(b"\r\n").await.unwrap();
    }

    /// Sends the end with these trailers; returns the first line of what the server says.
    async fn end(mut self, trailers: &str) -> String {
        self.0.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await.unwrap();
        let mut said = [0; 12];
        let read = self.0.read_exact(&mut said);
        tokio::time::timeout(WAIT_MAX, read).await.expect("no answer").unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Bench {
    async fn beginning(&mut self) -> Beginning {
        match self.event().await {
            RuntimeEvent::Answering { invocation, beginning } if invocation.0 == "7" => beginning,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn each_piece_is_passed_on_before_the_next_comes() {
    let mut bench = bench().await;
    let mut sending = Sending::begin(&mut bench).await;
    let mut beginning = bench.beginning().await;
    assert_eq!(beginning.content_type, "text/plain");
    for piece in ["one", "two", "three"] {
        sending.piece(piece.as_bytes()).await;
        assert_eq!(beginning.chunks.recv().await.unwrap(), piece);
    }
    assert_eq!(sending.end("").await, "HTTP/1.1 202");
    assert!(beginning.chunks.recv().await.is_none());
    assert!(matches!(bench.outcome().await.1, Outcome::Answer { .. }));
}

#[tokio::test]
async fn an_error_in_the_trailers_is_the_outcome() {
    let mut bench = bench().await;
    let mut sending = Sending::begin(&mut bench).await;
    sending.piece(b"half").await;
    let trailers = "Lambda-Runtime-Function-Error-Type: Bad.Luck\r\nLambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n";
    assert_eq!(sending.end(trailers).await, "HTTP/1.1 202");
    assert_eq!(bench.beginning().await.chunks.recv().await.unwrap(), "half");
    let expected = outcome::function_error(r#"{"a":1}"#.into(), Some("Bad.Luck".to_owned()));
    assert_eq!(bench.outcome().await.1, expected);
}

#[tokio::test]
async fn what_a_client_that_has_gone_would_have_read_is_thrown_away() {
    let mut bench = bench().await;
    let mut sending = Sending::begin(&mut bench).await;
    drop(bench.beginning().await);
    for _ in 0..64 {
        sending.piece(&[b'x'; 64 * 1024]).await;
    }
    assert_eq!(sending.end("").await, "HTTP/1.1 202");
    assert!(matches!(bench.outcome().await.1, Outcome::Answer { .. }));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_function_back() {
    const PIECES: usize = 64;
    let mut bench = bench().await;
    let mut sending = Sending::begin(&mut bench).await;
    let mut beginning = bench.beginning().await;
    let writing = tokio::spawn(async move {
        for _ in 0..PIECES {
            sending.piece(&[b'x'; 1024 * 1024]).await; // More than all buffers on the way hold.
        }
        sending.end("").await
    });
    let full = async {
        while beginning.chunks.len() < beginning.chunks.max_capacity() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, full).await.unwrap();
    assert!(!writing.is_finished());
    let mut len = 0;
    while let Some(chunk) = beginning.chunks.recv().await {
        len += chunk.len();
    }
    assert_eq!(len, PIECES * 1024 * 1024);
    assert_eq!(writing.await.unwrap(), "HTTP/1.1 202");
}

#[tokio::test]
async fn nothing_else_can_be_said_while_an_answer_is_under_way() {
    let mut bench = bench().await;
    let mut sending = Sending::begin(&mut bench).await;
    drop(bench.beginning().await);
    let mut other = bench.client().await;
    for (method, path) in [
        ("GET", "invocation/next"),
        ("POST", "invocation/7/error"),
        ("POST", "invocation/7/response"),
        ("POST", "init/error"),
    ] {
        assert_eq!(call(&mut other, method, path, "{}".into()).await.0, 403, "{path}");
    }
    sending.piece(b"still here").await;
    assert_eq!(sending.end("").await, "HTTP/1.1 202");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let mut bench = bench().await;
    let mut sending = Sending::begin(&mut bench).await;
    sending.piece(b"half").await;
    let mut beginning = bench.beginning().await;
    assert_eq!(beginning.chunks.recv().await.unwrap(), "half");
    drop(sending);
    assert!(beginning.chunks.recv().await.is_none());
    assert!(bench.messages.try_recv().is_err(), "its death or the time limit is the outcome");
}
