//! One HTTP request and its answer on a connection of its own, as much of HTTP/1.1 as our own server needs.

use std::io::{self, BufRead, BufReader, Read, Write};

/// Larger answers are refused: Lambda's own limit is 6 MB, a listing of ten thousand sandboxes is about as much.
const BODY_LEN_MAX: u64 = 32 << 20;
/// Lines of status and headers, together.
const HEAD_LEN_MAX: u64 = 64 << 10;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// The function failed, says the server (`X-Amz-Function-Error`).
    pub(crate) is_function_error: bool,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// Sends one request over `stream` and reads the answer to its end.
pub(crate) fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    // In one piece: two writes would wait for each other's acknowledgement.
    stream.write_all(&[head.as_bytes(), body].concat())?;
    read_answer(BufReader::new(stream))
}

fn read_answer(mut stream: impl BufRead) -> io::Result<Answer> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        let room = HEAD_LEN_MAX.saturating_sub(start as u64);
        stream.by_ref().take(room).read_until(b'\n', &mut head)?;
        match head.get(start..) {
            Some(b"\r\n" | b"\n") => break,
            Some(line) if line.ends_with(b"\n") => {}
            _ => return Err(invalid("the answer ends within its head")),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let body = match (header("transfer-encoding"), header("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => read_chunks(&mut stream)?,
        (_, Some(len)) => read_body(&mut stream, len.parse().map_err(|_| invalid("no length"))?)?,
        _ => read_rest(&mut stream)?,
    };
    Ok(Answer {
        status: status.ok_or_else(|| invalid("no status line"))?,
        is_function_error: header("x-amz-function-error").is_some(),
        body,
    })
}

fn read_body(stream: &mut impl BufRead, len: u64) -> io::Result<Vec<u8>> {
    if len > BODY_LEN_MAX {
        return Err(invalid("the answer is too large"));
    }
    let mut body = Vec::new();
    stream.take(len).read_to_end(&mut body)?;
    if body.len() as u64 == len { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_rest(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    stream.take(BODY_LEN_MAX + 1).read_to_end(&mut body)?;
    if body.len() as u64 <= BODY_LEN_MAX { Ok(body) } else { Err(invalid("the answer is too large")) }
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.by_ref().take(HEAD_LEN_MAX).read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("no chunk size"))?;
        if size == 0 {
            return Ok(body);
        }
        if size + body.len() as u64 > BODY_LEN_MAX {
            return Err(invalid("the answer is too large"));
        }
        body.extend(read_body(stream, size)?);
        read_body(stream, 2)?; // The line end after a chunk.
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, expected: Option<(u16, &str)>) {
        let read = read_answer(answer.as_bytes()).ok();
        let read = read.map(|answer| (answer.status, String::from_utf8(answer.body).unwrap()));
        assert_eq!(read, expected.map(|(status, body)| (status, body.to_owned())));
    }

    #[test]
    fn a_body_has_its_length_or_comes_in_chunks_or_ends_with_the_connection() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", Some((200, "he")));
        check(
            "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Some((404, "abc")),
        );
        check("HTTP/1.1 200 OK\r\n\r\nall", Some((200, "all")));
    }

    #[test]
    fn an_answer_cut_short_is_no_answer() {
        check("", None);
        check("HTTP/1.1 200 OK\r\nContent-Le", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhello", None);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", None);
    }
}
