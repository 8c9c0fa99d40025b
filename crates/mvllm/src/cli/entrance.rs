//! Which socket `mvllm run` accepts on: one that systemd holds, one that another mvllm gives away,
//! or a new one.

use std::net::SocketAddr;

use super::RunArgs;
use crate::handover::activation::{ActivationError, inherited};
use crate::handover::{Entrance, Origin, TakeoverError, take_over};
use crate::listen::{ListenError, address_of, listen};

#[derive(Debug, thiserror::Error)]
pub(super) enum EntranceError {
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the socket has no address: {0}")]
    Address(#[from] std::io::Error),
}

/// To be called before there are threads.
pub(super) fn entrance(args: &RunArgs) -> Result<Entrance, EntranceError> {
    if let Some(listener) = inherited()? {
        let address = listener.local_addr()?;
        let entrance = Entrance { listener, origin: Origin::Activated };
        return Ok(running(args, address)?.unwrap_or(entrance));
    }
    if args.takeover
        && let Some(entrance) = running(args, address_of(&args.host, args.port)?)?
    {
        return Ok(entrance);
    }
    Ok(Entrance::opened(listen(&args.host, args.port)?))
}

/// The entrance of the process that is running, if there is one and it is to be relieved.
fn running(args: &RunArgs, address: SocketAddr) -> Result<Option<Entrance>, TakeoverError> {
    if args.takeover { take_over(address) } else { Ok(None) }
}
