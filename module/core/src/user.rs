//! User ids: 1 to 128 bytes of UTF-8 without NUL, the same at every door.

use crate::limit::USER_ID_BYTES_MAX;
use crate::refusal::Refusal;

/// A valid user id, borrowed from wherever it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId<'a>(&'a str);

impl<'a> UserId<'a> {
    /// Reads a user id.
    ///
    /// # Errors
    /// [`Refusal::Usage`] if it is empty, longer than 128 bytes, not UTF-8, or holds a NUL (PostgreSQL's
    /// `text` cannot store one).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.is_empty() || bytes.len() > USER_ID_BYTES_MAX {
            return Err(Refusal::usage(format!(
                "user id has {} bytes, 1 to {USER_ID_BYTES_MAX} are allowed",
                bytes.len()
            )));
        }
        if bytes.contains(&0) {
            return Err(Refusal::usage("user id holds a NUL byte; leave it out"));
        }
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Self(text)),
            Err(_) => Err(Refusal::usage("user id is not UTF-8; encode it, for example as hex")),
        }
    }

    /// The id as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The id as bytes, which is how Redis orders members of equal score.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_1_to_128_bytes_of_utf8_are_users() {
        for good in ["1", "1001", "쿠폰", "%n%s", "a b\r\nc", &"x".repeat(128)] {
            assert_eq!(UserId::parse(good.as_bytes()).map(UserId::as_str), Ok(good));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let long = [b'x'; 129];
        for bad in [&b""[..], &long, b"a\0b", b"\xff\xfe", b"\0"] {
            assert!(matches!(UserId::parse(bad), Err(Refusal::Usage(_))), "{bad:?}");
        }
    }
}
