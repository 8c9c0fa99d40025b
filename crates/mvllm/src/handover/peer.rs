//! How the two processes find and trust each other.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as Name;

use rustix::process::geteuid;
use tokio::net::UnixStream;

/// The name under which the process that listens on `address` can be reached.
///
/// An abstract one (unix(7)): it goes when its process goes, however that dies, is seen in no other
/// network namespace, as the port itself, and needs no folder that both may write to.
#[cfg(target_os = "linux")]
pub(super) fn name(address: SocketAddr) -> io::Result<Name> {
    use std::os::linux::net::SocketAddrExt;
    Name::from_abstract_name(format!("mvllm {address}"))
}

/// Only Linux has abstract names.
#[cfg(not(target_os = "linux"))]
pub(super) fn name(_: SocketAddr) -> io::Result<Name> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the process at the other end belongs to the user that this one belongs to. Anybody can
/// reach, and take, an abstract name; the kernel vouches for the user.
pub(super) fn is_one_of_us(stream: &UnixStream) -> io::Result<bool> {
    Ok(stream.peer_cred()?.uid() == geteuid().as_raw())
}
