//! A listening socket that was open before this process began: systemd's socket activation
//! (sd_listen_fds(3)).

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// Why an inherited socket is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    #[error(
        "{0} sockets were passed on to this process (LISTEN_FDS), and mvllm listens on one: leave one \
         ListenStream= in the socket unit."
    )]
    Several(usize),
    #[error(
        "the socket that was passed on to this process (LISTEN_FDS) is of no use: {0}. It must be a \
         TCP socket that listens: ListenStream= with a port, and Accept=no."
    )]
    Unusable(io::Error),
}

/// The socket, if there is one. To be called before there are threads: it takes the variables out of
/// the environment, so that no child believes them to be its own.
pub(crate) fn inherited() -> Result<Option<TcpListener>, ActivationError> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => return Ok(None),
        1 => {}
        several => return Err(ActivationError::Several(several)),
    }
    let listener = sockets.take_tcp_listener(0).map_err(ActivationError::Unusable)?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true).map_err(ActivationError::Unusable)?;
    }
    Ok(listener)
}
