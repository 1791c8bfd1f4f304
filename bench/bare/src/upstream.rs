//! The upstream behind every target: answers each request head with the same 200 and 1 KiB, kept
//! alive. Reads no body and parses nothing, so that the load side's core has time for the load.

use std::error::Error;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BODY_BYTES: usize = 1024;
/// The end of a head (RFC 9112 §2.1).
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Serves until it is ended from outside.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1024\r\n\r\n";
    let answer = format!("{head}{}", "x".repeat(BODY_BYTES));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone().into_bytes();
        tokio::task::spawn_local(async move {
            // An end of the connection is no news to anybody.
            converse(stream, &answer).await.ok();
        });
    }
}

async fn converse(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut buffer = [0; 8192];
    let mut matched = 0;
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        for byte in buffer.iter().take(length) {
            matched = match HEAD_END.get(matched) {
                Some(wanted) if wanted == byte => matched + 1,
                _ => usize::from(*byte == b'\r'),
            };
            if matched == HEAD_END.len() {
                matched = 0;
                stream.write_all(answer).await?;
            }
        }
    }
}
