//! The certificates of TLS to Redis: in files, which are read at each connection, so that renewed ones need no restart.

use ::redis::{ClientTlsConfig, TlsCertificates};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the certificates are.
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
        let client_tls = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read("cert", cert)?, client_key: read("key", key)? })
            }
            _ => None,
        };
        let root_cert = self.ca.as_deref().map(|file| read("ca", file)).transpose()?;
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

fn read(which: &str, file: &Path) -> io::Result<Vec<u8>> {
    fs::read(file)
        .map_err(|error| io::Error::new(error.kind(), format!("--redis-tls-{which} {}: {error}", file.display())))
}
