//! One writer at a time, also across a kill -9: the program that loads rules outlives the proxy that started it, and
//! iptables-restore loses rules when anything else changes the kernel's rules meanwhile, of whatever family or table:
//! the kernel counts all changes together.
//!
//! The lock is an abstract socket, so it is per network namespace as the rules are, and leaves no file. Programs
//! inherit it: it is free when the last of them has ended. Upstream has the same race and no answer to it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::time::Instant;
use tracing::warn;

/// A program that takes longer hangs, and would block the rules for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// Loads take some milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Held while programs that write rules may run.
pub struct Turn {
    _held: Option<UnixListener>,
}

/// Waits until no program of ours, or of an earlier proxy, writes rules any more.
pub async fn take() -> Turn {
    let began = Instant::now();
    loop {
        match try_take() {
            Ok(socket) => return Turn { _held: Some(socket) },
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && began.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => {
                warn!(%error, "Another program may be writing rules, going on all the same");
                return Turn { _held: None };
            }
        }
    }
}

fn try_take() -> io::Result<UnixListener> {
    let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name("kube-proxy-rules")?)?;
    // Programs inherit it.
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_programs_keep_it() {
        // The name is the machine's: a proxy may hold it.
        let Ok(first) = try_take() else { return };
        assert_eq!(try_take().expect_err("held").kind(), io::ErrorKind::AddrInUse);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a program");
        drop(first);
        assert_eq!(try_take().expect_err("inherited").kind(), io::ErrorKind::AddrInUse);
        child.kill().expect("its end");
        child.wait().expect("its end");
        drop(try_take().expect("free"));
    }
}
