//! A way to a server that can be led to another one: what a client sees of a failover behind one address.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// Listens on a port of its own, and passes every connection on.
pub struct Proxy {
    /// Where it listens on loopback.
    pub port: u16,
    target: Arc<AtomicU16>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Begins, leading to this port.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let target = Arc::new(AtomicU16::new(target));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let proxy = Self { port, target: Arc::clone(&target), streams: Arc::clone(&streams) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Whoever cannot be led on is turned away, as by a server that is down.
                let _ = lead(client, target.load(Ordering::Acquire), &streams);
            }
        });
        proxy
    }

    /// Leads everybody to another port: connections end, new ones go there.
    ///
    /// # Panics
    /// Never.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Release);
        self.cut();
    }

    /// Ends all connections.
    ///
    /// # Panics
    /// Never.
    pub fn cut(&self) {
        for stream in self.streams.lock().expect("not poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lead(client: TcpStream, target: u16, streams: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        streams.lock().expect("not poisoned").push(stream.try_clone()?);
    }
    pass(client.try_clone()?, server.try_clone()?);
    pass(server, client);
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        // Either side may end at any moment; then the other hears of it.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
