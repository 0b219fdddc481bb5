//! The address of PostgreSQL.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fs::File;
use std::str::FromStr;
use url::form_urlencoded;

/// A parameter for TLS: its spellings in the address, and the variable that counts where it is left out.
type Parameter = (&'static [&'static str], &'static str);

const MODE: Parameter = (&["sslmode", "ssl-mode"], "PGSSLMODE");
const CA: Parameter = (&["sslrootcert", "ssl-root-cert", "ssl-ca"], "PGSSLROOTCERT");
const CERT: Parameter = (&["sslcert", "ssl-cert"], "PGSSLCERT");
const KEY: Parameter = (&["sslkey", "ssl-key"], "PGSSLKEY");

/// Reads an address. What sqlx would pass over in silence is refused: who asks for TLS shall not get less of it than they
/// believe.
pub fn options(url: &str) -> Result<PgConnectOptions, String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let is_known = |name: &str| [MODE, CA, CERT, KEY].iter().any(|(names, _)| names.contains(&name));
    if let Some((name, _)) = parameters.iter().find(|(name, _)| name.starts_with("ssl") && !is_known(name)) {
        return Err(format!("{name} is not known; for TLS there are sslmode, sslrootcert, sslcert and sslkey"));
    }
    let find = |(names, variable): Parameter| {
        let in_address = parameters.iter().rev().find(|(name, _)| names.contains(&&**name)).cloned();
        in_address.or_else(|| Some((variable.to_owned(), std::env::var(variable).ok()?)))
    };
    if let Some((by, mode)) = find(MODE) {
        PgSslMode::from_str(&mode).map_err(|error| format!("{by}: {error}"))?;
    }
    for (by, file) in [CA, CERT, KEY].into_iter().filter_map(find) {
        // A variable may hold the certificate itself. The error of sqlx would not name the file.
        if !file.trim_start().starts_with("-----BEGIN") {
            File::open(&file).map_err(|error| format!("{by} {file}: {error}"))?;
        }
    }
    let server = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default();
    let hosts = server.rsplit('@').next().unwrap_or_default();
    let options = PgConnectOptions::from_str(url);
    if hosts.contains(',') || options.as_ref().is_ok_and(|options| options.get_host().contains(',')) {
        return Err("several hosts cannot be named; name one address that follows the primary, as a virtual IP, a service name or a \
                    proxy does"
            .into());
    }
    let options = options.map_err(|error| error.to_string())?;
    Ok(match options.get_ssl_mode() {
        // As libpq does: whoever names a CA wants it to be asked.
        PgSslMode::Require if find(CA).is_some() => options.ssl_mode(PgSslMode::VerifyCa),
        _ => options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_weaken_tls_in_silence_is_refused() {
        for (parameters, why) in [
            ("sslmode=verify_full", "sslmode: "),
            ("sslmod=verify-full", "sslmod is not known"),
            ("sslcrl=/crl.pem", "sslcrl is not known"),
            ("sslmode=verify-full&sslrootcert=/no/such/file", "sslrootcert /no/such/file"),
            ("sslcert=/no/such/file&sslkey=/no/such/file", "sslcert /no/such/file"),
        ] {
            let refused = options(&format!("postgres://app:secret@host/shop?{parameters}")).err();
            let why_not = refused.unwrap_or_default();
            assert!(why_not.contains(why) && !why_not.contains("secret"), "{parameters}: {why_not}");
        }
    }

    #[test]
    fn several_hosts_are_refused_with_the_way_round() {
        for url in [
            "postgres://app:a,b@one,two/shop",
            "postgres://app:secret@one:5432,two:5432/shop?target_session_attrs=read-write",
            "postgres://one,two",
            "postgresql:///shop?host=one,two&port=5432",
        ] {
            let why_not = options(url).err().unwrap_or_default();
            assert!(why_not.contains("several hosts") && !why_not.contains("secret"), "{url}: {why_not}");
        }
        assert!(options("postgres://app:a,b@one/shop,2?application_name=a,b").is_ok());
    }

    #[test]
    fn a_ca_that_is_named_is_asked() {
        // Any file that can be read; what is in it shows when it is connected.
        let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (asked, got) in
            [("require", PgSslMode::VerifyCa), ("verify-full", PgSslMode::VerifyFull), ("prefer", PgSslMode::Prefer)]
        {
            let read = options(&format!("postgres://host/shop?sslmode={asked}&sslrootcert={ca}"));
            let mode = read.map(|options| format!("{:?}", options.get_ssl_mode())).ok();
            assert_eq!(mode, Some(format!("{got:?}")));
        }
    }
}
