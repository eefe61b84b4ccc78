//! Binding a port with the socket options of upstream's `--permit-port-sharing` and `--permit-address-sharing`.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Socket options.
#[derive(Debug, Clone, Copy, Default)]
pub struct BindOptions {
    /// SO_REUSEPORT.
    pub share_port: bool,
    /// SO_REUSEADDR also for wildcard beside specific addresses. Go's listener sets it on Linux anyway.
    pub share_address: bool,
    /// A wildcard listens on its own family alone.
    pub own_family: bool,
}

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    pub(super) tcp: TcpListener,
    address: SocketAddr,
}

/// Pending connections the kernel keeps; Go takes net.core.somaxconn, whose default is this.
const BACKLOG: u32 = 4096;

impl Listener {
    /// Binds `ip:port`. `0.0.0.0` and `::` listen on both families, as Go's wildcard does.
    ///
    /// # Errors
    /// What the system says, with the address.
    pub fn bind(ip: IpAddr, port: u16, options: BindOptions) -> io::Result<Self> {
        let wrap = |e: io::Error| {
            let address = SocketAddr::new(ip, port);
            io::Error::new(e.kind(), format!("failed to create listener: failed to listen on {address}: {e}"))
        };
        let listen = |address: SocketAddr| -> io::Result<TcpListener> {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            if options.share_port {
                socket.set_reuseport(true)?;
            }
            if options.own_family && address.is_ipv6() {
                nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only, &true)?;
            }
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        // A dual-stack wildcard needs IPv6 sockets without IPV6_V6ONLY, which is Linux's default; a kernel without IPv6
        // falls back to IPv4.
        let tcp = if ip.is_unspecified() && !options.own_family {
            listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).or_else(|e| match e.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(e),
                _ => listen(SocketAddr::new(ip, port)),
            })
        } else {
            listen(SocketAddr::new(ip, port))
        }
        .map_err(wrap)?;
        let address = tcp.local_addr()?;
        Ok(Listener { tcp, address })
    }

    /// Where it listens; tells the port when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
