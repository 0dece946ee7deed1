//! Who is at the other end of a Unix socket.

use std::num::NonZeroU32;

/// Who is at the other end of a Unix socket. Returned by
/// [`Stream::peer_credentials`](crate::transport::Stream::peer_credentials).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The process. `None` if it has no number in this process's pid namespace: it runs outside of
    /// a container that this process runs in (pid_namespaces(7)). Always `None` on macOS and
    /// FreeBSD.
    pub pid: Option<NonZeroU32>,
    /// Its user. In another user namespace it may be the overflow user, 65534.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}
