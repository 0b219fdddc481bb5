//! What both sides' TLS has in common: one provider, files that are looked at before they are used, and what to do where a
//! handshake fails. The libraries say what is wrong and not what to set, so each of their words that has a cure stands here
//! beside it.

use crate::policy::Side;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs;
use std::path::Path;

/// A failure, by a part of its text.
struct Failure {
    says: &'static str,
    redis: &'static str,
    postgresql: &'static str,
}

impl Failure {
    /// One that is cured in the same way on both sides.
    const fn of_both(says: &'static str, advice: &'static str) -> Self {
        Self { says, redis: advice, postgresql: advice }
    }
}

/// The first that fits counts.
const FAILURES: &[Failure] = &[
    Failure {
        says: "UnknownIssuer",
        redis: "no CA that is trusted has signed the server's certificate; name the file of the one that has with --redis-tls-ca",
        postgresql: "no CA that is trusted has signed the server's certificate; name the file of the one that has with \
                     sslrootcert in --database-url",
    },
    Failure::of_both(
        "CaUsedAsEndEntity",
        "the server shows the certificate of a CA; let that CA sign one for the server",
    ),
    Failure::of_both(
        "certificate not valid for name",
        "connect by a name or address that the certificate is for, or have one made for this name",
    ),
    Failure {
        says: "certificate: BadSignature",
        redis: "another CA than the trusted one of the same name has signed the server's certificate; name that one's file \
                with --redis-tls-ca",
        postgresql: "another CA than the trusted one of the same name has signed the server's certificate; name that one's \
                     file with sslrootcert in --database-url",
    },
    Failure::of_both("certificate expired", "renew the server's certificate"),
    Failure::of_both("certificate not valid yet", "compare the clocks of both machines"),
    Failure {
        says: "received fatal alert: CertificateRequired",
        redis: "the server asks for a certificate of its clients; name one with --redis-tls-cert and --redis-tls-key",
        postgresql: "the server asks for a certificate of its clients; name one with sslcert and sslkey in --database-url",
    },
    Failure {
        says: "received fatal alert: UnknownCA",
        redis: "the server does not trust the CA of --redis-tls-cert; see its tls-ca-cert-file",
        postgresql: "the server does not trust the CA of sslcert; see its ssl_ca_file",
    },
    Failure {
        says: "received fatal alert: CertificateExpired",
        redis: "renew the certificate of --redis-tls-cert",
        postgresql: "renew the certificate of sslcert",
    },
    Failure {
        says: "received fatal alert: ProtocolVersion",
        redis: "the server speaks no version from TLS 1.2 on; see its tls-protocols",
        postgresql: "the server speaks no version from TLS 1.2 on; see its ssl_max_protocol_version",
    },
    Failure {
        says: "received corrupt message of type InvalidContentType",
        redis: "this port does not speak TLS; give the server's tls-port, or write redis:// for a connection without TLS",
        postgresql: "what answers there is no PostgreSQL that speaks TLS",
    },
    Failure {
        says: "server does not support TLS",
        redis: "",
        postgresql: "set ssl = on there; sslmode=prefer in --database-url would connect without TLS",
    },
    Failure {
        says: "no encryption",
        redis: "",
        postgresql: "if pg_hba.conf lets this user in by TLS alone, write sslmode=verify-full in --database-url",
    },
    Failure {
        says: "requires a valid client certificate",
        redis: "",
        postgresql: "name one with sslcert and sslkey in --database-url",
    },
];

/// What to do about what a side's library says, where that is known.
pub fn advice(side: Side, text: &str) -> Option<&'static str> {
    let failure = FAILURES.iter().find(|failure| text.contains(failure.says))?;
    let advice = match side {
        Side::Redis => failure.redis,
        Side::PostgreSql => failure.postgresql,
    };
    (!advice.is_empty()).then_some(advice)
}

/// What a side's library says, with what to do about it.
pub fn advised(side: Side, text: String) -> String {
    match advice(side, &text) {
        // What is told on by another one of our errors has it already.
        Some(advice) if !text.contains(advice) => format!("{text}; {advice}"),
        _ => text,
    }
}

/// Makes ring the provider of everything that speaks TLS in this process, whatever features the libraries come with.
pub fn set_provider() {
    // It fails where there is one already, and nobody sets another.
    let _ = ring::default_provider().install_default();
}

/// The certificates that a file holds, or why it holds none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = contents(file)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("the file holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----".to_owned()),
        Err(error) => Err(format!("the file is not PEM: {error}")),
    }
}

/// Whether a file holds the key to the first of these certificates.
pub fn check_key(chain: Vec<CertificateDer<'static>>, file: &Path) -> Result<(), String> {
    // Why it cannot be read is not told: the parser's error may show a part of it.
    let key = PrivateKeyDer::from_pem_slice(&contents(file)?)
        .map_err(|_| "the file holds no private key in PEM that is not encrypted".to_owned())?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(drop)
        .map_err(|error| format!("it is not the key to the certificate: {error}"))
}

fn contents(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("the file cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};
    use std::sync::Arc;
    use std::time::Duration;

    /// The texts are the library's, and change with its versions.
    #[test]
    fn each_failure_of_the_library_is_known_by_its_text() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let Ok(expected) = ServerName::try_from("localhost") else { unreachable!("a name") };
        #[derive(Debug, thiserror::Error)]
        #[error("CaUsedAsEndEntity")]
        struct CaUsedAsEndEntity;
        for (error, advice) in [
            (CertificateError::UnknownIssuer.into(), "--redis-tls-ca"),
            (CertificateError::BadSignature.into(), "of the same name"),
            (CertificateError::Other(OtherError(Arc::new(CaUsedAsEndEntity))).into(), "of a CA"),
            (CertificateError::NotValidForNameContext { expected, presented: vec![] }.into(), "connect by a name"),
            (CertificateError::ExpiredContext { time: at(2), not_after: at(1) }.into(), "renew the server's"),
            (CertificateError::NotValidYetContext { time: at(1), not_before: at(2) }.into(), "clocks"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "--redis-tls-cert and --redis-tls-key"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "tls-ca-cert-file"),
            (Error::AlertReceived(AlertDescription::CertificateExpired), "renew the certificate of --redis-tls-cert"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), "tls-protocols"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "redis://"),
        ] {
            let said = advised(Side::Redis, error.to_string());
            let (text, found) = said.split_once("; ").filter(|_| said != error.to_string()).unwrap_or_default();
            assert!(said.contains(advice) && !text.is_empty() && !found.is_empty(), "{said}");
            assert_eq!(advised(Side::Redis, said.clone()), said, "it is said once");
            let said = advised(Side::PostgreSql, error.to_string());
            assert!(!said.contains("--redis") && said.len() > error.to_string().len(), "{said}");
        }
        assert_eq!(advised(Side::Redis, "Connection refused".into()), "Connection refused");
    }
}
