//! Talks netlink: requests in batches, and dumps. Blocks: call it on a thread that may wait.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Requests sent together: their answers must fit into the socket's buffer.
const BATCH: usize = 64;

/// A request that changes something.
pub struct Request<T> {
    message: T,
    flags: u16,
    forgiven: Vec<i32>,
}

impl<T> Request<T> {
    /// Without flags besides those that every request has.
    pub fn new(message: T) -> Self {
        Self { message, flags: 0, forgiven: Vec::new() }
    }

    /// With flags.
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// An error that means that there is nothing to do.
    pub fn forgive(mut self, errno: i32) -> Self {
        self.forgiven.push(errno);
        self
    }
}

fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn append<T: NetlinkSerializable>(buffer: &mut Vec<u8>, message: T, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    packet.finalize();
    let start = buffer.len();
    buffer.resize(start + packet.buffer_len().next_multiple_of(4), 0);
    packet.serialize(&mut buffer[start..start + packet.buffer_len()]);
}

/// Reads one datagram, message by message; true = the caller has what it waits for.
fn receive<T: NetlinkDeserializable>(
    socket: &Socket,
    mut each: impl FnMut(u32, NetlinkPayload<T>) -> io::Result<bool>,
) -> io::Result<bool> {
    let (answer, _) = socket.recv_from_full()?;
    let (mut rest, mut done) = (answer.as_slice(), false);
    while !rest.is_empty() {
        let packet = <NetlinkMessage<T>>::deserialize(rest)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let length = (packet.header.length as usize).next_multiple_of(4).max(16);
        done |= each(packet.header.sequence_number, packet.payload)?;
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(done)
}

/// Sends all requests, whatever becomes of single ones.
///
/// # Errors
/// The first that is not forgiven.
pub fn send<T: NetlinkSerializable + NetlinkDeserializable>(
    protocol: isize,
    requests: Vec<Request<T>>,
) -> io::Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let socket = connect(protocol)?;
    let mut problem = None;
    let mut requests = requests.into_iter();
    loop {
        let mut batch: Vec<Request<T>> = requests.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return problem.map_or(Ok(()), Err);
        }
        let (mut buffer, last) = (Vec::new(), batch.len());
        let forgiven: Vec<Vec<i32>> = batch.iter_mut().map(|r| std::mem::take(&mut r.forgiven)).collect();
        for (sequence, request) in (1u32..).zip(batch) {
            // Errors come in any case; the last one's answer says that all are done.
            let acknowledge = if sequence as usize == last { NLM_F_ACK } else { 0 };
            append(&mut buffer, request.message, request.flags | acknowledge, sequence);
        }
        socket.send(&buffer, 0)?;
        let answered = |sequence: u32, payload: NetlinkPayload<T>| {
            if let NetlinkPayload::Error(error) = payload {
                let known = (sequence as usize).checked_sub(1).and_then(|at| forgiven.get(at));
                let code = error.raw_code().abs();
                if error.code.is_some() && !known.is_some_and(|known| known.contains(&code)) {
                    problem.get_or_insert_with(|| error.to_io());
                }
                return Ok(sequence as usize == last);
            }
            Ok(false)
        };
        let mut answered = answered;
        while !receive(&socket, &mut answered)? {}
    }
}

/// Asks, and hands over all of the answer.
///
/// # Errors
/// What the system says.
pub fn dump<T: NetlinkSerializable + NetlinkDeserializable>(
    protocol: isize,
    request: T,
    mut each: impl FnMut(T),
) -> io::Result<()> {
    query(protocol, request, NLM_F_DUMP, &mut each)
}

/// Asks for one thing.
///
/// # Errors
/// What the system says.
pub fn get<T: NetlinkSerializable + NetlinkDeserializable>(
    protocol: isize,
    request: T,
    mut each: impl FnMut(T),
) -> io::Result<()> {
    query(protocol, request, NLM_F_ACK, &mut each)
}

fn query<T: NetlinkSerializable + NetlinkDeserializable>(
    protocol: isize,
    request: T,
    flags: u16,
    each: &mut impl FnMut(T),
) -> io::Result<()> {
    let socket = connect(protocol)?;
    let mut buffer = Vec::new();
    append(&mut buffer, request, flags, 1);
    socket.send(&buffer, 0)?;
    let mut read = |_: u32, payload: NetlinkPayload<T>| match payload {
        NetlinkPayload::Done(done) if done.code < 0 => Err(io::Error::from_raw_os_error(-done.code)),
        NetlinkPayload::Done(_) => Ok(true),
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(true),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        NetlinkPayload::InnerMessage(message) => {
            each(message);
            Ok(false)
        }
        _ => Ok(false),
    };
    while !receive(&socket, &mut read)? {}
    Ok(())
}
