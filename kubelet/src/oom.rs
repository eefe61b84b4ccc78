//! Processes that the kernel ended for want of memory of the whole machine: an event about the node.
//!
//! What it ends for a limit of a group is seen where that container is. Start reading at [`Reader::line`]. Messages from
//! before the start are not told again (upstream tells all that the kernel still has at each start). Upstream:
//! pkg/kubelet/oom/oom_watcher_linux.go, third_party/forked/cadvisor/oomparser, v1.37.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;

const MESSAGES: &str = "/dev/kmsg";
/// More than the kernel puts into one message.
const LONGEST: usize = 16 << 10;

/// A process that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oom {
    /// The group whose limit was met; `/` for the machine.
    pub group: String,
    /// Name of the process.
    pub process: String,
    /// Its id.
    pub pid: u32,
}

/// Puts together what the kernel says in several messages.
#[derive(Debug, Default)]
pub struct Reader(Option<Oom>);

impl Reader {
    /// The next message, without what stands before `;`; the last one about a process returns it.
    pub fn line(&mut self, text: &str) -> Option<Oom> {
        if text.contains("invoked oom-killer:") {
            self.0 = Some(Oom { group: "/".to_owned(), process: String::new(), pid: 0 });
            return None;
        }
        let found = self.0.as_mut()?;
        if let Some((group, process, pid)) = of_group(text) {
            *found = Oom { group, process, pid };
        } else if let Some((process, pid)) = killed(text) {
            (found.process, found.pid) = (process, pid);
        } else {
            return None;
        }
        self.0.take()
    }
}

/// `oom-kill:constraint=...,oom_memcg=/a,task_memcg=/a/b,task=name,pid=1,uid=0`; one about the machine has no `oom_memcg`.
fn of_group(text: &str) -> Option<(String, String, u32)> {
    let (_, fields) = text.split_once("oom-kill:constraint=")?;
    let (_, fields) = fields.split_once(",oom_memcg=")?;
    let (group, fields) = fields.split_once(",task_memcg=")?;
    let (_, fields) = fields.split_once(",task=")?;
    // A process may have commas in its name.
    let (fields, _) = fields.rsplit_once(",uid=")?;
    let (process, pid) = fields.rsplit_once(",pid=")?;
    Some((group.to_owned(), process.to_owned(), pid.parse().ok()?))
}

/// `Out of memory: Killed process 1 (name) total-vm:...`
fn killed(text: &str) -> Option<(String, u32)> {
    let (_, rest) = text.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    let (process, _) = rest.rsplit_once(')')?;
    Some((process.to_owned(), pid.parse().ok()?))
}

/// What the event says.
fn message(oom: &Oom) -> String {
    if oom.process.is_empty() || oom.pid == 0 {
        return "System OOM encountered".to_owned();
    }
    format!("System OOM encountered, victim process: {}, pid: {}", oom.process, oom.pid)
}

/// Watches until `stop`. A machine whose messages cannot be read is watched without them.
pub async fn run(kubelet: Arc<Kubelet>, stop: CancellationToken) {
    let result = tokio::select! {
        () = stop.cancelled() => return,
        result = watch(&kubelet) => result,
    };
    if let Err(error) = result {
        tracing::error!(
            path = MESSAGES,
            %error,
            "Stopped receiving OOM notifications; OOM events will not be reported"
        );
    }
}

async fn watch(kubelet: &Kubelet) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(MESSAGES)?;
    file.seek(SeekFrom::End(0))?;
    // Nothing of it is asked that only a pipe has.
    let messages = Receiver::from_owned_fd_unchecked(file.into())?;
    let mut buffer = vec![0; LONGEST];
    let mut reader = Reader::default();
    loop {
        messages.readable().await?;
        let read = match messages.try_read(&mut buffer) {
            Ok(read) => read,
            // A broken pipe says that messages were overwritten before they were read; the oldest come next.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe) => continue,
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
        let Some((_, text)) = text.split_once(';') else { continue };
        let first = text.lines().next().unwrap_or_default();
        if let Some(oom) = reader.line(first).filter(|oom| oom.group == "/") {
            let message = message(&oom);
            tracing::warn!(message, "Got sys oom event");
            kubelet.events.node(&kubelet.node.name, true, "SystemOOM", &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Vec<(String, String, u32)> {
        let mut reader = Reader::default();
        let found = lines.iter().filter_map(|line| reader.line(line));
        found.map(|oom| (oom.group, oom.process, oom.pid)).collect()
    }

    #[test]
    fn of_the_machine_or_a_group() {
        let begin =
            "stress invoked oom-killer: gfp_mask=0xdc0(GFP_KERNEL|__GFP_ZERO), order=0, oom_score_adj=0";
        let machine = [
            begin,
            "CPU: 0 PID: 10 Comm: stress Not tainted",
            "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=stress,pid=10,uid=0",
            "Out of memory: Killed process 10 (stress) total-vm:1kB, anon-rss:1kB",
        ];
        assert_eq!(read(&machine), [("/".into(), "stress".into(), 10)]);
        let group = [
            begin,
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,oom_memcg=/kubepods/p,task_memcg=/kubepods/p/c,task=a,b,pid=7,uid=0",
            "Memory cgroup out of memory: Killed process 7 (a,b) total-vm:1kB",
        ];
        assert_eq!(read(&group), [("/kubepods/p".into(), "a,b".into(), 7)]);
        // Whatever else is said of processes is about nothing that began.
        assert_eq!(read(&machine[3..]), []);
    }

    #[test]
    fn texts() {
        let oom = |process: &str, pid| Oom { group: "/".into(), process: process.into(), pid };
        assert_eq!(message(&oom("a", 1)), "System OOM encountered, victim process: a, pid: 1");
        assert_eq!(message(&oom("", 0)), "System OOM encountered");
    }
}
