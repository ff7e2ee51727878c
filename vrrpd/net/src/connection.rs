//! The connection that requests go over.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use tokio::task::JoinHandle;

use crate::error::{Error, Object};

/// How long a request may take. The kernel's routing lock can be held for hundreds of milliseconds by others (deleting a namespace, a
/// slow driver), so this is generous; whoever needs an address quickly must not wait for it in its protocol thread.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests to the kernel of the current network namespace. Cheap to clone; the connection ends with the last clone.
#[derive(Debug, Clone)]
pub struct Net {
    handle: rtnetlink::Handle,
    task: Arc<Task>,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Net {
    /// Opens the connection. Call it inside a tokio runtime, on a thread that is in the right network namespace.
    pub fn connect() -> Result<Net, Error> {
        let (connection, handle, _unsolicited) =
            rtnetlink::new_connection().map_err(|source| Error::Refused {
                attempt: "open",
                object: Object::Socket,
                source,
            })?;
        Ok(Net {
            handle,
            task: Arc::new(Task(tokio::spawn(connection))),
        })
    }

    /// The same, and the kernel leaves out of a listing what was not asked for (NETLINK_GET_STRICT_CHK, Linux 4.20; older ones do not).
    pub fn connect_strict() -> Result<Net, Error> {
        let strict = rtnetlink::new_connection_with_strict_check();
        let (connection, handle, _unsolicited) = strict
            .or_else(|_| rtnetlink::new_connection())
            .map_err(|source| refused("open", Object::Socket, source))?;
        Ok(Net {
            handle,
            task: Arc::new(Task(tokio::spawn(connection))),
        })
    }

    /// The underlying handle, for requests that this crate has no method for.
    pub fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }

    /// Carries out a request with its deadline.
    pub(crate) async fn request<T>(
        &self,
        attempt: &'static str,
        object: &Object,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, Error> {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, request)
            .await
            .map_err(|_| Error::TimedOut {
                attempt,
                object: object.clone(),
                seconds: REQUEST_TIMEOUT.as_secs(),
            })?;
        let value =
            answer.map_err(|error| Error::from_rtnetlink(attempt, object.clone(), error))?;
        // A connection that ends closes the answer's channel, which rtnetlink reads as "no error".
        if self.task.0.is_finished() {
            return Err(Error::Connection {
                attempt,
                object: object.clone(),
                reason: "the netlink connection has ended".to_owned(),
            });
        }
        Ok(value)
    }

    /// Collects a dump with its deadline.
    pub(crate) async fn dump<T>(
        &self,
        object: &Object,
        stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
    ) -> Result<Vec<T>, Error> {
        self.request("list", object, stream.try_collect()).await
    }

    /// Carries out a change; the kernel's answers `absorbed` mean that it is in place already. True if something was changed.
    pub(crate) async fn change(
        &self,
        attempt: &'static str,
        object: Object,
        absorbed: &[i32],
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<bool, Error> {
        match self.request(attempt, &object, request).await {
            Ok(()) => Ok(true),
            Err(Error::Refused { source, .. })
                if source
                    .raw_os_error()
                    .is_some_and(|code| absorbed.contains(&code)) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn refused(attempt: &'static str, object: Object, source: io::Error) -> Error {
    Error::Refused {
        attempt,
        object,
        source,
    }
}
