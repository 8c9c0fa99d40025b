//! What the machine lets this process have.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};

/// Descriptors that are left alone by clients: those of the runtimes, log files and watched files,
/// and of mvllm's own questions to some dozens of servers.
const OWN_FILES: u64 = 64;

/// Where control groups are looked at.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// As many clients as can be served without running out of file descriptors: each may need a second
/// one, for a connection to a server.
pub(crate) fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(OWN_FILES) / 2).unwrap_or(usize::MAX).max(1)
}

/// The memory of the machine, or of the control group if that is less; as it was when first asked
/// for.
pub(crate) fn memory() -> usize {
    static MEMORY: OnceLock<usize> = OnceLock::new();
    *MEMORY.get_or_init(memory_now)
}

fn memory_now() -> usize {
    let machine = memory_of_the_machine();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    granted(Path::new(CONTROL_GROUPS), &own).map_or(machine, |granted| granted.min(machine))
}

#[cfg(target_os = "linux")]
fn memory_of_the_machine() -> usize {
    let info = rustix::system::sysinfo();
    let machine = u128::from(info.totalram) * u128::from(info.mem_unit);
    usize::try_from(machine).unwrap_or(usize::MAX)
}

/// No machine for servers has less.
#[cfg(not(target_os = "linux"))]
fn memory_of_the_machine() -> usize {
    4 * 1024 * 1024 * 1024
}

/// The least limit of the control group and of those above it (cgroup v2, `memory.max`). `own` is
/// /proc/self/cgroup, of which the line `0::/path` counts.
fn granted(root: &Path, own: &str) -> Option<usize> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let groups = Path::new(path).ancestors();
    // In a container, the path may be one that is only known outside: its root remains.
    groups.filter_map(|group| limit(&root.join(group).join("memory.max"))).min()
}

/// `None` as well for "max", which is none.
fn limit(file: &Path) -> Option<usize> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a.slice/b.service");
        fs::create_dir_all(&inner).unwrap();
        let granted = |own| granted(root.path(), own);
        assert_eq!(granted("0::/a.slice/b.service\n"), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(granted("0::/a.slice/b.service\n"), None);
        fs::write(root.path().join("a.slice/memory.max"), "1000\n").unwrap();
        assert_eq!(granted("0::/a.slice/b.service\n"), Some(1000));
        fs::write(inner.join("memory.max"), "300\n").unwrap();
        assert_eq!(granted("1:cpu:/x\n0::/a.slice/b.service\n"), Some(300));
        // What is known outside only.
        assert_eq!(granted("0::/../elsewhere\n"), None);
        assert_eq!(granted(""), None);
    }

    #[test]
    fn this_machine_has_some_memory_and_some_files() {
        assert!(memory() > 16 * 1024 * 1024);
        assert!(connections() > 1);
    }
}
