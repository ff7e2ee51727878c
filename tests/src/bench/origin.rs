//! SHELL: the application server of the benchmarks: answers every request with twelve bytes and keeps the connection.
//!
//! One thread of its own, which does as little as it can: its time is not measured, but it must never be what the proxies wait for.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::pin::Processors;

/// The body of every answer.
pub const BODY: &[u8] = b"hello world\n";

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello world\n";

/// Starts the origin for the rest of this process's life; gives its address.
pub fn start(processors: Processors) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to bind the origin")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    thread::Builder::new()
        .name("origin".into())
        .spawn(move || {
            processors.take();
            runtime.block_on(async {
                let listener =
                    tokio::net::TcpListener::from_std(listener).expect("a runtime is there");
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream));
                    }
                }
            });
        })?;
    Ok(address)
}

/// Requests without a body, one at a time: what the load of the benchmarks is, whatever proxy brings it.
async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(1..) if filled == buffer.len() => return,
            Ok(count @ 1..) => filled += count,
            Ok(0) | Err(_) => return,
        }
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}
