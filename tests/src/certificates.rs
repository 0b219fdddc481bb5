//! Certificates that are made for one test.

use crate::container;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One that signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, for those who shall trust it.
    pub file: PathBuf,
    directory: TempDir,
}

/// What a server or a client shows, and the key to it.
pub struct Certificate {
    /// In PEM.
    pub file: PathBuf,
    /// In PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, that nobody trusts yet.
    #[must_use]
    pub fn new() -> Self {
        Self::called(&format!("Test CA {}", fastrand::u32(..)))
    }

    /// One of this name, which others may have too.
    ///
    /// # Panics
    /// If no file can be written.
    #[must_use]
    pub fn called(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("coupon-certificates-").tempdir().expect("temporary directory");
        container::show(directory.path());
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = write(directory.path(), "ca.pem", &params.self_signed(&key).expect("a certificate").pem());
        Self { issuer: Issuer::new(params, key), file, directory }
    }

    /// A certificate for these names and addresses; the first is its common name too.
    ///
    /// # Panics
    /// If a name cannot be one.
    #[must_use]
    pub fn sign(&self, names: &[&str]) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(names[0], names).signed_by(&key, &self.issuer).expect("a certificate");
        let directory = self.directory.path();
        Certificate {
            file: write(directory, &format!("{}.pem", names[0]), &certificate.pem()),
            key: write(directory, &format!("{}.key", names[0]), &key.serialize_pem()),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names that a certificate can hold");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn write(directory: &Path, name: &str, pem: &str) -> PathBuf {
    let file = directory.join(name);
    fs::write(&file, pem).expect("a certificate can be written");
    file
}
