//! The address of PostgreSQL, and TLS on the way there.

use crate::policy::Side;
use crate::settings::Wrong;
use crate::tls;
use rustls::pki_types::CertificateDer;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::path::Path;
use std::str::FromStr;
use url::form_urlencoded;

/// A parameter for TLS: its spellings in the address, and the variable that counts where it is left out.
struct Parameter {
    names: &'static [&'static str],
    variable: &'static str,
}

const MODE: Parameter = Parameter { names: &["sslmode", "ssl-mode"], variable: "PGSSLMODE" };
const CA: Parameter = Parameter { names: &["sslrootcert", "ssl-root-cert", "ssl-ca"], variable: "PGSSLROOTCERT" };
const CERT: Parameter = Parameter { names: &["sslcert", "ssl-cert"], variable: "PGSSLCERT" };
const KEY: Parameter = Parameter { names: &["sslkey", "ssl-key"], variable: "PGSSLKEY" };

/// A value, and what says so.
struct Said {
    by: String,
    value: String,
}

impl Parameter {
    fn find(&self, parameters: &[(String, String)]) -> Option<Said> {
        let in_address = parameters.iter().rev().find(|(name, _)| self.names.contains(&&**name));
        let in_address = in_address.map(|(name, value)| Said { by: name.clone(), value: value.clone() });
        let value = || std::env::var(self.variable).ok();
        in_address.or_else(|| Some(Said { by: self.variable.to_owned(), value: value()? }))
    }
}

impl Said {
    /// The file that it names; none where the value is the certificate or key itself, in PEM.
    fn file(&self) -> Option<&Path> {
        (!self.value.trim_start().starts_with("-----BEGIN")).then(|| Path::new(&self.value))
    }

    fn certificates(&self) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
        self.file().map(tls::certificates).transpose().map_err(|why| self.refused(&why))
    }

    fn refused(&self, why: &str) -> String {
        format!("{} {}: {why}", self.by, self.value)
    }
}

/// Reads an address.
pub fn options(url: &str) -> Result<PgConnectOptions, Wrong> {
    let wrong = |why: String| Wrong { setting: "database-url", why };
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    check_tls(&parameters).map_err(wrong)?;
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| wrong(format!("{error}; write postgres://user:password@host:port/database")))?;
    Ok(match options.get_ssl_mode() {
        // As libpq does: whoever names a CA wants it to be asked.
        PgSslMode::Require if CA.find(&parameters).is_some() => options.ssl_mode(PgSslMode::VerifyCa),
        _ => options,
    })
}

/// What sqlx would pass over in silence, or find out with every connection anew, is refused here: who asks for TLS shall
/// not get less of it than they believe.
fn check_tls(parameters: &[(String, String)]) -> Result<(), String> {
    let is_known = |name: &str| [MODE, CA, CERT, KEY].iter().any(|parameter| parameter.names.contains(&name));
    if let Some((name, _)) = parameters.iter().find(|(name, _)| name.starts_with("ssl") && !is_known(name)) {
        return Err(format!("{name} is not known; for TLS there are sslmode, sslrootcert, sslcert and sslkey"));
    }
    if let Some(Said { by, value }) = MODE.find(parameters)
        && PgSslMode::from_str(&value).is_err()
    {
        return Err(format!(
            "{by} cannot be '{value}'; disable, prefer, require, verify-ca and verify-full are allowed"
        ));
    }
    if let Some(ca) = CA.find(parameters) {
        ca.certificates()?;
    }
    match (CERT.find(parameters), KEY.find(parameters)) {
        (None, None) => Ok(()),
        (Some(cert), None) => Err(format!("{} needs sslkey beside it", cert.by)),
        (None, Some(key)) => Err(format!("{} needs sslcert beside it", key.by)),
        (Some(cert), Some(key)) => match (cert.certificates()?, key.file()) {
            (Some(chain), Some(file)) => tls::check_key(chain, file).map_err(|why| key.refused(&why)),
            _ => Ok(()),
        },
    }
}

/// An error in its own words, with what to do where TLS is the matter.
pub fn wording(error: &sqlx::Error) -> String {
    tls::advised(Side::PostgreSql, error.to_string())
}

/// What TLS there is on a connection, for people; `version` is what the server says of it.
pub fn describe(mode: PgSslMode, version: Option<&str>) -> String {
    let Some(version) = version else { return "without TLS".to_owned() };
    let how = match mode {
        PgSslMode::VerifyFull => "the server has shown a certificate for its name",
        PgSslMode::VerifyCa => {
            "the server has shown a certificate, for whatever name; sslmode=verify-full compares the name too"
        }
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer | PgSslMode::Require => {
            "whoever the server is, as its certificate is not verified; sslmode=verify-full does"
        }
    };
    format!("by {version}, {how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_weaken_tls_in_silence_is_refused() {
        for (parameters, why) in [
            ("sslmode=verify_full", "verify-full"),
            ("sslmod=verify-full", "sslmod is not known"),
            ("sslcrl=/crl.pem", "sslcrl is not known"),
            ("sslmode=verify-full&sslrootcert=/no/such/file", "/no/such/file"),
            ("sslcert=/no/such/file", "needs sslkey"),
            ("sslkey=/no/such/file", "needs sslcert"),
            ("sslcert=/no/such/file&sslkey=/no/such/file", "sslcert /no/such/file"),
        ] {
            let refused = options(&format!("postgres://app:secret@host/shop?{parameters}")).err();
            let why_not = refused.map(|wrong| wrong.why).unwrap_or_default();
            assert!(why_not.contains(why) && !why_not.contains("secret"), "{parameters}: {why_not}");
        }
    }

    #[test]
    fn a_ca_that_is_named_is_asked() {
        const PEM: &str = "-----BEGIN%20CERTIFICATE-----%0A-----END%20CERTIFICATE-----";
        let mode = |parameters: &str| {
            let read = options(&format!("postgres://host/shop?{parameters}&sslrootcert={PEM}"));
            read.map(|options| describe(options.get_ssl_mode(), Some("TLSv1.3"))).map_err(|wrong| wrong.why)
        };
        assert!(
            mode("sslmode=require").is_ok_and(|mode| mode.contains("whatever name")),
            "{:?}",
            mode("sslmode=require")
        );
        assert!(mode("sslmode=verify-full").is_ok_and(|mode| mode.contains("for its name")));
        assert!(mode("sslmode=prefer").is_ok_and(|mode| mode.contains("not verified")));
    }
}
