//! Sends a transaction, and hears what the kernel makes of it.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};

use super::batch::{Batch, HEADER};

/// NLMSG_ERROR.
pub const ERROR: u16 = 2;
/// The kernel takes some of the buffer for itself.
const SPARE: usize = 4096;

/// What the kernel refused: the line, or the transaction as a whole.
#[derive(Debug)]
pub struct Refused {
    pub line: Option<usize>,
    pub error: io::Error,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self { line: None, error }
    }
}

/// A connection to the kernel.
///
/// # Errors
/// What the system says.
pub fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Errors then do not repeat what they are about.
    socket.set_cap_ack(true)?;
    Ok(socket)
}

/// Runs a transaction; all of it or nothing. Blocks for as long as the kernel works on it.
///
/// # Errors
/// The first thing that the kernel refused.
pub fn run(batch: &Batch) -> Result<(), Refused> {
    if batch.lines.is_empty() {
        return Ok(());
    }
    let (socket, length) = (open()?, batch.bytes.len());
    setsockopt(&socket, sockopt::SndBufForce, &(length + SPARE)).map_err(io::Error::from)?;
    if socket.send(&batch.bytes, 0)? != length {
        return Err(io::Error::from(io::ErrorKind::WriteZero).into());
    }
    answered(&socket, &batch.lines)
}

/// Answers are there when sending has returned.
fn answered(socket: &Socket, lines: &[u32]) -> Result<(), Refused> {
    socket.set_non_blocking(true)?;
    let mut done = false;
    loop {
        let answer = match socket.recv_from_full() {
            Ok((answer, _)) => answer,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e.into()),
        };
        let mut rest = answer.as_slice();
        while let Some(Header { kind, sequence, code, length, .. }) = header(rest) {
            if kind == ERROR && code != 0 {
                let of = usize::try_from(sequence).ok().and_then(|at| lines.get(at.checked_sub(1)?));
                let error = io::Error::from_raw_os_error(-code);
                return Err(Refused { line: of.and_then(|line| usize::try_from(*line).ok()), error });
            }
            done |= kind == ERROR;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    if done { Ok(()) } else { Err(io::Error::other("the kernel did not answer").into()) }
}

/// What a message says of itself.
pub struct Header {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// Of answers that have one.
    pub code: i32,
    pub length: usize,
}

/// The first message's.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok();
    let half = |at: usize| bytes.get(at..at + 2)?.try_into().ok();
    Some(Header {
        kind: u16::from_ne_bytes(half(4)?),
        flags: u16::from_ne_bytes(half(6)?),
        sequence: u32::from_ne_bytes(word(8)?),
        code: i32::from_ne_bytes(word(HEADER)?),
        length: usize::try_from(u32::from_ne_bytes(word(0)?)).ok().filter(|l| *l >= HEADER)?,
    })
}
