//! One look at the file: what it says, and which file it is.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// What one look at the file has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub content: Content,
    /// `None` when the file could not be opened.
    pub identity: Option<Identity>,
}

/// What the file says, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Bytes(Arc<[u8]>),
    Unreadable(Unreadable),
}

/// Which file it is and when it was last written to. Never says that a file is unchanged (a
/// backup may be restored with its old times); says that one is still being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// Of the last write: seconds, and nanoseconds within the second.
    pub modified: (i64, i64),
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    #[error("there is no such file")]
    Missing,
    #[error("it is a directory")]
    Directory,
    /// Opening a pipe waits for its writer, and what it says can be read only once.
    #[error("it is not a regular file, so it cannot be read again after a change")]
    NotRegular,
    #[error("it is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("this user may not read it")]
    Denied,
    #[error("it cannot be read ({0})")]
    Other(io::ErrorKind),
}

/// A server takes about 100 bytes: room for ten thousand of them, and no way to fill the memory by
/// pointing `--config` at a model.
pub const FILE_MAX: u64 = 1024 * 1024;

impl Sighting {
    /// Reads the file. Blocks; on a network file system for as long as that does.
    pub fn take(path: &Path) -> Self {
        match look(path) {
            Ok((bytes, identity)) => {
                Self { content: Content::Bytes(bytes.into()), identity: Some(identity) }
            }
            Err(error) => Self { content: Content::Unreadable(error), identity: None },
        }
    }
}

fn look(path: &Path) -> Result<(Vec<u8>, Identity), Unreadable> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(Unreadable::Directory);
    }
    if !metadata.is_file() {
        return Err(Unreadable::NotRegular);
    }
    let file = File::open(path)?;
    // Of the open file, so that a rename in between cannot mix two files; and before reading, so
    // that two equal identities have the first reading between them.
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Unreadable::TooLarge { limit: FILE_MAX });
    }
    let identity = Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        size: metadata.size(),
    };
    Ok((bytes, identity))
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::IsADirectory => Self::Directory,
            other => Self::Other(other),
        }
    }
}
