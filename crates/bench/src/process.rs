//! A router's processes: what they have used of the processor and of memory.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, which is 100 on all of Linux's architectures
/// but Alpha (proc(5), sysconf(3)).
const TICKS_PER_SECOND: u64 = 100;

/// How long a process may take to end when told to.
const TO_END: Duration = Duration::from_secs(5);

/// A process and all that it has started. Told to end when dropped.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Child,
}

impl Tree {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { root: command.spawn()? })
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.root.try_wait(), Ok(None))
    }

    /// User and system time of all threads of all processes, in microseconds.
    pub(crate) fn cpu_micros(&self) -> u64 {
        let ticks: u64 = self.members().iter().map(|pid| ticks_of(*pid).unwrap_or(0)).sum();
        ticks * 1_000_000 / TICKS_PER_SECOND
    }

    /// Resident memory of all processes, in KB.
    pub(crate) fn resident_kb(&self) -> u64 {
        self.members().iter().map(|pid| resident_kb_of(*pid).unwrap_or(0)).sum()
    }

    fn members(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some(parent) = field(pid, PARENT).and_then(|parent| u32::try_from(parent).ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut members = vec![self.root.id()];
        let mut at = 0;
        while at < members.len() {
            members.extend(children.get(&members[at]).into_iter().flatten());
            at += 1;
        }
        members
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let members = self.members();
        for pid in &members {
            tell(*pid, Signal::TERM);
        }
        let deadline = std::time::Instant::now() + TO_END;
        while self.is_running() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        for pid in &members {
            tell(*pid, Signal::KILL);
        }
        // It has been killed: this does not wait.
        let _ = self.root.wait();
    }
}

fn tell(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// Fields of `/proc/PID/stat`, counted from behind the name, which may hold anything.
const PARENT: usize = 1;
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;

fn field(pid: u32, nth: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(nth)?.parse().ok()
}

fn ticks_of(pid: u32) -> Option<u64> {
    Some(field(pid, USER_TIME)? + field(pid, SYSTEM_TIME)?)
}

fn resident_kb_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
