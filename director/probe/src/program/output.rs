//! SHELL: what a program says, to standard output and error.

use std::io;

use tokio::net::unix::pipe;

use crate::engine::shown;

/// How much of what a program says is kept.
const LIMIT: usize = 4096;

/// The reading end.
#[derive(Debug)]
pub(super) struct Output {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
}

impl Output {
    pub(super) fn new(pipe: std::os::fd::OwnedFd) -> io::Result<Output> {
        Ok(Output {
            pipe: pipe::Receiver::from_owned_fd(pipe)?,
            kept: Vec::new(),
        })
    }

    /// Reads as long as the program speaks, so that it never has to wait; what is too much is thrown away.
    pub(super) async fn follow(&mut self) -> std::convert::Infallible {
        let mut piece = [0; 1024];
        loop {
            let count = match self.pipe.readable().await {
                Ok(()) => self.pipe.try_read(&mut piece),
                Err(error) => Err(error),
            };
            match count {
                Ok(count) if count > 0 => self.keep(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Its end, or nothing more to be had: the exit is what is waited for.
                Ok(_) | Err(_) => std::future::pending().await,
            }
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = LIMIT.saturating_sub(self.kept.len());
        self.kept.extend(piece.iter().take(room));
    }

    /// What was said last and not read yet. Somebody who left the group may still hold the pipe: nothing is waited for. The pipe itself is asked,
    /// since the runtime may not have heard of what lies in it.
    pub(super) fn read_rest(&mut self) {
        let mut piece = [0; 1024];
        while self.kept.len() < LIMIT {
            match rustix::io::read(&self.pipe, &mut piece) {
                Ok(count) if count > 0 => self.keep(piece.get(..count).unwrap_or_default()),
                _ => return,
            }
        }
    }

    /// The first line with something in it.
    pub(super) fn first_line(&self) -> String {
        let mut lines = self.kept.split(|byte| *byte == b'\n');
        let first = lines.find(|line| !line.trim_ascii().is_empty());
        first.map_or_else(String::new, shown)
    }
}
