//! A listener between clients and a server: it connects each client on, and hands both sockets over.
//!
//! **Invariant:** a connection whose server is unavailable ends, and small pieces wait for no acknowledgement.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

/// Listens on a separate port for as long as it lives.
pub struct Between {
    pub address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Between {
    /// Has `pass` carry the bytes between each client and `server`.
    pub async fn start<Passing>(
        server: SocketAddr,
        pass: impl Fn(TcpStream, TcpStream) -> Passing + Clone + Send + 'static,
    ) -> Self
    where
        Passing: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let pass = pass.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else {
                        return;
                    };
                    for socket in [&client, &server] {
                        socket.set_nodelay(true).expect("a socket of our own");
                    }
                    pass(client, server).await;
                });
            }
        });
        Self { address, accepting }
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
