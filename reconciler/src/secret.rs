//! Addresses without their passwords, for logs and errors.

const HIDDEN: &str = "***";

/// The address with the password hidden, whether it stands before the `@` or among the parameters.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    let (head, parameters) = match rest.split_once('?') {
        Some((head, parameters)) => (head, Some(parameters)),
        None => (rest, None),
    };
    // A password may itself hold '/' or '@' if it was not encoded; the last '@' is the one that counts.
    let head = match head.rsplit_once('@') {
        None => head.to_owned(),
        Some((user, place)) => match user.split_once(':') {
            None => format!("{user}@{place}"),
            Some((user, _)) => format!("{user}:{HIDDEN}@{place}"),
        },
    };
    match parameters {
        None => format!("{scheme}://{head}"),
        Some(parameters) => {
            let shown: Vec<String> = parameters.split('&').map(redact_parameter).collect();
            format!("{scheme}://{head}?{}", shown.join("&"))
        }
    }
}

fn redact_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_never_show() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:secret@host/0", "redis://:***@host/0"),
            ("redis://app:secret@host", "redis://app:***@host"),
            ("redis://app@host", "redis://app@host"),
            ("postgres://app:se@cr/et@host/db", "postgres://app:***@host/db"),
            ("postgres://host/db?user=app&password=secret", "postgres://host/db?user=app&password=***"),
            ("postgres://host/db?sslpassword=secret&a", "postgres://host/db?sslpassword=***&a"),
            ("app:secret@host", "***"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
