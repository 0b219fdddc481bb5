//! A way to a server that can be led to another one: what a client sees of a failover behind one address.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// Listens on a port of its own, and passes every connection on.
pub struct Proxy {
    /// Where it listens on loopback.
    pub port: u16,
    target: Arc<AtomicU16>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    loses_answers: Arc<AtomicBool>,
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
        let loses_answers = Arc::new(AtomicBool::new(false));
        let proxy = Self {
            port,
            target: Arc::clone(&target),
            streams: Arc::clone(&streams),
            loses_answers: Arc::clone(&loses_answers),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Whoever cannot be led on is turned away, as by a server that is down.
                let _ = lead(client, target.load(Ordering::Acquire), &streams, &loses_answers);
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

    /// From here on servers hear their clients, and clients no answer, until all is [`Proxy::cut`].
    ///
    /// # Panics
    /// Never.
    pub fn lose_answers(&self) {
        self.loses_answers.store(true, Ordering::Release);
    }

    /// Ends all connections.
    ///
    /// # Panics
    /// Never.
    pub fn cut(&self) {
        for stream in self.streams.lock().expect("not poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.loses_answers.store(false, Ordering::Release);
    }
}

fn lead(
    client: TcpStream,
    target: u16,
    streams: &Mutex<Vec<TcpStream>>,
    loses_answers: &Arc<AtomicBool>,
) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        streams.lock().expect("not poisoned").push(stream.try_clone()?);
    }
    pass(client.try_clone()?, server.try_clone()?, None);
    pass(server, client, Some(Arc::clone(loses_answers)));
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_lost: Option<Arc<AtomicBool>>) {
    std::thread::spawn(move || {
        // Either side may end at any moment; then the other hears of it.
        let _ = copy(&mut from, &mut to, is_lost.as_deref());
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn copy(from: &mut TcpStream, to: &mut TcpStream, is_lost: Option<&AtomicBool>) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut bytes)?;
        if len == 0 {
            return Ok(());
        }
        if !is_lost.is_some_and(|is_lost| is_lost.load(Ordering::Acquire)) {
            to.write_all(&bytes[..len])?;
        }
    }
}
