//! One server: its address, and the way to it, by TLS or without.

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::io::tcp::socket2::TcpKeepalive;
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    RedisResult, TlsCertificates,
};
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, fs, io};

/// A server that does not accept within this time is away.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A command that is not answered within this time failed. Far above the longest ISSUE or a page of the stream.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is idle before the system asks whether the other end is there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);

/// Where the certificates of TLS are, in files that are read at each connection, so that renewed ones need no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// The CAs that are trusted; without it the system's are.
    pub ca: Option<PathBuf>,
    /// What this client shows to a server that asks for it.
    pub cert: Option<PathBuf>,
    /// The key to that.
    pub key: Option<PathBuf>,
}

impl Certificates {
    /// Reads them; whether they are of any use is for the library to say.
    pub fn read(&self) -> io::Result<TlsCertificates> {
        let read = |which: &str, file: &Option<PathBuf>| {
            let Some(file) = file else { return Ok(None) };
            let named = |error: io::Error| format!("--redis-tls-{which} {}: {error}", file.display());
            fs::read(file).map(Some).map_err(|error| io::Error::new(error.kind(), named(error)))
        };
        let pair = read("cert", &self.cert)?.zip(read("key", &self.key)?);
        let client_tls = pair.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        Ok(TlsCertificates { client_tls, root_cert: read("ca", &self.ca)? })
    }
}

/// A server.
#[derive(Clone)]
pub struct Server {
    /// Where it is, and how to log in.
    pub info: ConnectionInfo,
    certificates: Certificates,
}

impl Server {
    /// Reads an address.
    pub fn parse(url: impl IntoConnectionInfo, certificates: &Certificates) -> RedisResult<Self> {
        let write = "write redis://host:port, or rediss://host:port for TLS";
        let info = url.into_connection_info().map_err(|error| away(format!("{error}; {write}")))?;
        // A connection that anybody can sit in the middle of is worse than one that says that it has no TLS.
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(away("#insecure is not to be had: name the file of the server's CA with --redis-tls-ca"));
        }
        Ok(Self { info: info.set_tcp_settings(tcp()), certificates: certificates.clone() })
    }

    /// The server at another place, with the same login and certificates.
    pub fn moved(&self, host: String, port: u16) -> Self {
        let address = if self.has_tls() {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        Self { info: self.info.clone().set_addr(address), certificates: self.certificates.clone() }
    }

    /// Whether connections have TLS.
    pub fn has_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// What makes connections.
    pub fn client(&self) -> RedisResult<Client> {
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(self.info.clone(), certificates?),
            None => Client::open(self.info.clone()),
        }
    }

    /// The certificates for its connections, if they have TLS.
    pub fn certificates(&self) -> Option<io::Result<TlsCertificates>> {
        self.has_tls().then(|| self.certificates.read())
    }

    /// Connects.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        self.client()?.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// For people.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.addr().fmt(f)
    }
}

/// How connections use TCP.
pub fn tcp() -> TcpSettings {
    // The one: a small command does not wait for the acknowledgement of the one before. The other: who is idle hears of a dead host.
    TcpSettings::default().set_nodelay(true).set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE_TIME))
}

/// Who logs in is said once, before the first of several servers: `user:password@`, and the rest.
pub fn login_and_rest(rest: &str) -> (&str, &str) {
    rest.split_at(rest.rfind('@').map_or(0, |at| at + 1))
}

/// The error of a server that is away, in our words.
pub fn away(text: impl Into<String>) -> RedisError {
    RedisError::from(io::Error::other(text.into()))
}
