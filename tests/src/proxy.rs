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
    ways: Arc<Mutex<Vec<Way>>>,
}

/// A connection that is passed on.
struct Way {
    /// Where the server sees it come from.
    from: u16,
    is_silent: Arc<AtomicBool>,
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
        let ways = Arc::new(Mutex::new(Vec::new()));
        let proxy = Self {
            port,
            target: Arc::clone(&target),
            streams: Arc::clone(&streams),
            loses_answers: Arc::clone(&loses_answers),
            ways: Arc::clone(&ways),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Whoever cannot be led on is turned away, as by a server that is down.
                let _ = lead(client, target.load(Ordering::Acquire), &streams, &loses_answers, &ways);
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

    /// Leads who comes from here on to another port; connections that there are stay where they are.
    ///
    /// # Panics
    /// Never.
    pub fn lead_new_to(&self, port: u16) {
        self.target.store(port, Ordering::Release);
    }

    /// From here on nothing passes on the connections that there are, and neither end is told, as behind a firewall that has
    /// forgotten them; of all, or of the one that the server sees come from this port. New ones are passed on.
    ///
    /// # Panics
    /// If there is none.
    pub fn silence(&self, from: Option<u16>) {
        let ways = self.ways.lock().expect("not poisoned");
        let chosen: Vec<_> = ways.iter().filter(|way| from.is_none_or(|from| way.from == from)).collect();
        assert!(!chosen.is_empty(), "no connection comes from {from:?}");
        chosen.iter().for_each(|way| way.is_silent.store(true, Ordering::Release));
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
    ways: &Mutex<Vec<Way>>,
) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        streams.lock().expect("not poisoned").push(stream.try_clone()?);
    }
    let is_silent = Arc::new(AtomicBool::new(false));
    let way = Way { from: server.local_addr()?.port(), is_silent: Arc::clone(&is_silent) };
    ways.lock().expect("not poisoned").push(way);
    pass(client.try_clone()?, server.try_clone()?, vec![Arc::clone(&is_silent)]);
    pass(server, client, vec![is_silent, Arc::clone(loses_answers)]);
    Ok(())
}

/// Passes on what comes, unless one of these says that it is lost.
fn pass(mut from: TcpStream, mut to: TcpStream, is_lost: Vec<Arc<AtomicBool>>) {
    std::thread::spawn(move || {
        let is_lost = || is_lost.iter().any(|is_lost| is_lost.load(Ordering::Acquire));
        // Either side may end at any moment; then the other hears of it, if anything is heard at all.
        let _ = copy(&mut from, &mut to, is_lost);
        if !is_lost() {
            let _ = to.shutdown(Shutdown::Both);
        }
    });
}

fn copy(from: &mut TcpStream, to: &mut TcpStream, is_lost: impl Fn() -> bool) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut bytes)?;
        if len == 0 {
            return Ok(());
        }
        if !is_lost() {
            to.write_all(&bytes[..len])?;
        }
    }
}
