//! The sockets that the service listens on.
//!
//! **Invariant:** all of them are bound before anything is recovered or served, so that a port in use ends the start at
//! once and has no other effect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{fmt, io};

use tokio::net::{TcpListener, TcpSocket};

/// Maximum number of connections that the kernel queues until they are accepted.
const BACKLOG: u32 = 1024;

/// One listener of the service: the same port on each address.
#[derive(Debug)]
pub struct Listener {
    /// `main`, `otlp_http` or `otlp_grpc`.
    pub name: &'static str,
    pub sockets: Vec<TcpListener>,
}

/// A port that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {error}; {setting} moves that listener to another port, and `off` closes it"
)]
pub struct BindError {
    pub address: SocketAddr,
    pub error: io::Error,
    /// Name of the setting that moves or closes the listener.
    pub setting: &'static str,
}

impl Listener {
    /// Binds `port` on each address; port 0 picks one free port for all of them.
    ///
    /// On a machine without IPv6, `::` becomes `0.0.0.0` (or is left out if that is listed, too), and `::1` is left out
    /// if other addresses are listed; each with a log line.
    ///
    /// # Errors
    /// [`BindError`] if a port is in use, or an address is not this machine's.
    pub fn bind(
        name: &'static str,
        setting: &'static str,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<Self, BindError> {
        let mut port = port;
        let mut sockets = Vec::with_capacity(addresses.len());
        for &ip in addresses {
            let mut address = SocketAddr::new(ip, port);
            let bound = match bind(address) {
                Err(error) if ip == Ipv6Addr::UNSPECIFIED && lacks_ipv6(&error) => {
                    if addresses.contains(&Ipv4Addr::UNSPECIFIED.into()) {
                        tracing::info!("no IPv6 here: {name} listens without [::]");
                        continue;
                    }
                    tracing::info!("no IPv6 here: {name} listens on 0.0.0.0 instead of [::]");
                    address.set_ip(Ipv4Addr::UNSPECIFIED.into());
                    bind(address)
                }
                Err(error)
                    if ip == Ipv6Addr::LOCALHOST && addresses.len() > 1 && lacks_ipv6(&error) =>
                {
                    tracing::info!("no IPv6 here: {name} listens without ::1");
                    continue;
                }
                bound => bound,
            };
            let socket = bound.map_err(|error| BindError {
                address,
                error,
                setting,
            })?;
            port = socket.local_addr().map_or(port, |bound| bound.port());
            sockets.push(socket);
        }
        Ok(Self { name, sockets })
    }

    /// Returns the URLs of the listener, without a path.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let addresses = self.sockets.iter().filter_map(|s| s.local_addr().ok());
        addresses
            .map(|address| format!("http://{address}"))
            .collect()
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.urls().join(", "))
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait until TIME_WAIT of the previous process's connections ends.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::Listener;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn port_0_is_one_free_port_for_every_address() {
        let both = [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let listener = Listener::bind("main", "RUVVECTOR_SERVICE_PORT", &both, 0).unwrap();
        let ports: Vec<u16> = listener
            .sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .collect();
        assert!(ports.iter().all(|port| *port != 0 && *port == ports[0]));
    }

    #[tokio::test]
    async fn the_error_of_a_used_port_names_the_setting_that_moves_or_closes_the_listener() {
        let first = Listener::bind("a", "X", &[LOOPBACK], 0).unwrap();
        let port = first.sockets[0].local_addr().unwrap().port();
        let setting = "RUVVECTOR_OTLP_HTTP_PORT";
        let error = Listener::bind("otlp_http", setting, &[LOOPBACK], port).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
        assert!(said.contains("RUVVECTOR_OTLP_HTTP_PORT moves"), "{said}");
        assert!(said.contains("`off` closes it"), "{said}");
    }
}
