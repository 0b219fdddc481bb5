//! The certificates of TLS to Redis: in files, which are read at each connection, so that renewed ones need no restart.

use crate::settings::Wrong;
use crate::tls;
use ::redis::{ClientTlsConfig, TlsCertificates};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The settings, as the command line names them.
const CA: &str = "redis-tls-ca";
const CERT: &str = "redis-tls-cert";
const KEY: &str = "redis-tls-key";

/// Where the certificates are.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// The CAs that are trusted; without it the system's are.
    pub ca: Option<PathBuf>,
    /// What this client shows to a server that asks for it.
    pub cert: Option<PathBuf>,
    /// The key to that.
    pub key: Option<PathBuf>,
}

impl Certificates {
    /// The first that is set.
    pub fn first_setting(&self) -> Option<&'static str> {
        [(CA, &self.ca), (CERT, &self.cert), (KEY, &self.key)]
            .into_iter()
            .find_map(|(setting, file)| file.is_some().then_some(setting))
    }

    /// Whether a connection could be tried with them.
    pub fn check(&self) -> Result<(), Wrong> {
        if let Some(file) = &self.ca {
            tls::certificates(file).map_err(|why| Wrong { setting: CA, why })?;
        }
        let (cert, key) = match (&self.cert, &self.key) {
            (None, None) => return Ok(()),
            (Some(_), None) => return Err(Wrong { setting: CERT, why: format!("it needs --{KEY} beside it") }),
            (None, Some(_)) => return Err(Wrong { setting: KEY, why: format!("it needs --{CERT} beside it") }),
            (Some(cert), Some(key)) => (cert, key),
        };
        let chain = tls::certificates(cert).map_err(|why| Wrong { setting: CERT, why })?;
        tls::check_key(chain, key).map_err(|why| Wrong { setting: KEY, why })
    }

    /// Reads them.
    pub fn read(&self) -> io::Result<TlsCertificates> {
        let read = |setting: &str, file: &Path| {
            fs::read(file)
                .map_err(|error| io::Error::new(error.kind(), format!("--{setting} {}: {error}", file.display())))
        };
        let client_tls = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(CERT, cert)?, client_key: read(KEY, key)? })
            }
            _ => None,
        };
        let root_cert = self.ca.as_deref().map(|file| read(CA, file)).transpose()?;
        Ok(TlsCertificates { client_tls, root_cert })
    }
}
