//! What sending costs at least: `bench-floor CONNECTIONS BYTES ROUNDS` writes so many bytes to each connection in turn on
//! the loopback, so many times, once as they are and once through TLS 1.3, from one thread that does nothing else, and
//! prints that thread's processor time for each write. The floor under whatever an API server's watch event or list costs.
//!
//! Readers run on threads of their own and do not decrypt. What it does not do: HTTP, or choose what is sent to whom.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// Between rounds, so that readers take what has come, as those of rare events do.
const PAUSE: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    let [connections, bytes, rounds] = numbers[..] else {
        anyhow::bail!("usage: bench-floor CONNECTIONS BYTES ROUNDS");
    };
    let (server, client) = configurations()?;
    let payload = vec![b'x'; bytes];
    for encrypted in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").context("listening on the loopback")?;
        let address = listener.local_addr()?;
        let mut ends = Vec::with_capacity(connections);
        for _ in 0..connections {
            let client = Arc::clone(&client);
            let reader =
                std::thread::spawn(move || read(&TcpStream::connect(address)?, encrypted.then_some(client)));
            ends.push((End::accept(&listener, encrypted.then(|| Arc::clone(&server)))?, reader));
        }
        let before = used()?;
        for _ in 0..rounds {
            ends.iter_mut().try_for_each(|(end, _)| end.send(&payload))?;
            std::thread::sleep(PAUSE);
        }
        let after = used()?;
        let each = |micros: i64| micros as f64 / (connections * rounds) as f64;
        let (user, system) = (each(after.0 - before.0), each(after.1 - before.1));
        let how = if encrypted { "TLS" } else { "plain" };
        println!(
            "{how}: {:.1} us for each write of {bytes} bytes (user {user:.1}, system {system:.1})",
            user + system
        );
        for (end, reader) in ends {
            drop(end);
            reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
    }
    Ok(())
}

/// User and system time of this thread, in microseconds.
fn used() -> Result<(i64, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok((usage.user_time().num_microseconds(), usage.system_time().num_microseconds()))
}

fn configurations() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = made.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

/// The end that writes.
struct End {
    socket: TcpStream,
    session: Option<ServerConnection>,
}

impl End {
    fn accept(listener: &TcpListener, config: Option<Arc<ServerConfig>>) -> Result<Self> {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut session = config.map(ServerConnection::new).transpose()?;
        if let Some(session) = &mut session {
            while session.is_handshaking() || session.wants_write() {
                session.complete_io(&mut socket)?;
            }
        }
        Ok(Self { socket, session })
    }

    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(self.socket.write_all(payload)?) };
        for part in payload.chunks(32 << 10) {
            session.writer().write_all(part)?;
            while session.wants_write() {
                session.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }
}

/// Takes what comes until the other end is gone.
fn read(mut socket: &TcpStream, config: Option<Arc<ClientConfig>>) -> Result<()> {
    if let Some(config) = config {
        let mut session = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
        while session.is_handshaking() || session.wants_write() {
            session.complete_io(&mut socket)?;
        }
    }
    let mut buffer = vec![0; 64 << 10];
    while socket.read(&mut buffer).is_ok_and(|n| n > 0) {}
    Ok(())
}
