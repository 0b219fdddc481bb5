//! The keys of a coupon, and the pattern that ties a key to the ledger's id.

use crate::limit::KEY_BYTES_MAX;
use crate::refusal::Refusal;
use std::fmt;

/// Suffix of the sorted set of accepted users.
pub const ISSUED: &str = ":issued";
/// Suffix of the stream of grants.
pub const GRANTS: &str = ":grants";
/// Suffix of the sorted set of users whose rows PostgreSQL refused; it is there only while there are any.
pub const REFUSED: &str = ":refused";

/// Checks a coupon's key.
///
/// # Errors
/// [`Refusal::Usage`] if it is empty or too long, [`Refusal::CrossSlot`] if a cluster could tear its keys apart.
pub fn check(key: &[u8], is_cluster: bool) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Refusal::usage(format!("key has {} bytes, 1 to {KEY_BYTES_MAX} are allowed", key.len())));
    }
    if is_cluster && !has_hash_tag(key) { Err(Refusal::CrossSlot) } else { Ok(()) }
}

/// The coupon's key, in the name of a companion.
#[must_use]
pub fn coupon_of(companion: &[u8]) -> Option<&[u8]> {
    [ISSUED, GRANTS, REFUSED].iter().find_map(|suffix| companion.strip_suffix(suffix.as_bytes()))
}

/// Whether all keys derived from this one share its cluster slot: it has a hash tag that is not empty.
#[must_use]
pub fn has_hash_tag(key: &[u8]) -> bool {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return false };
    let tag = key.iter().skip(open).skip(1).position(|byte| *byte == b'}');
    tag.is_some_and(|len| len > 0)
}

/// How the key of a coupon is made of its id: `ID` in the pattern stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern {
    before: String,
    after: String,
}

impl KeyPattern {
    /// The pattern by habit.
    pub const DEFAULT: &'static str = "coupon:{ID}";
    const PLACE: &'static str = "ID";

    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence that says what is wrong, if `ID` does not stand in it exactly once.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        match pattern.split_once(Self::PLACE) {
            Some((before, after)) if !after.contains(Self::PLACE) => {
                if before.is_empty() && after.is_empty() {
                    return Err("the key pattern needs more than ID, so that a coupon's key can be told from others; try coupon:{ID}".into());
                }
                Ok(Self { before: before.to_owned(), after: after.to_owned() })
            }
            _ => Err(format!("the key pattern must hold ID exactly once, as in {}", Self::DEFAULT)),
        }
    }

    /// The key of a coupon.
    #[must_use]
    pub fn key(&self, id: &str) -> String {
        format!("{}{id}{}", self.before, self.after)
    }

    /// The id in a key, if the key follows the pattern.
    #[must_use]
    pub fn id<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.before)?.strip_suffix(&self.after).filter(|id| !id.is_empty())
    }

    /// The pattern for SCAN.
    #[must_use]
    pub fn glob(&self) -> String {
        let escape = |text: &str| {
            let special = |c| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^');
            text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect::<String>()
        };
        format!("{}*{}", escape(&self.before), escape(&self.after))
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key(Self::PLACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tag_is_what_redis_cluster_takes_for_one() {
        for tagged in ["coupon:{42}", "{a}", "x{a}{b}", "{a}}"] {
            assert!(has_hash_tag(tagged.as_bytes()), "{tagged}");
        }
        for bare in ["coupon:42", "", "{}", "{}{a}", "}{", "{a"] {
            assert!(!has_hash_tag(bare.as_bytes()), "{bare}");
        }
    }

    #[test]
    fn a_companion_tells_its_coupon() {
        assert_eq!(coupon_of(b"coupon:{42}:issued"), Some(&b"coupon:{42}"[..]));
        assert_eq!(coupon_of(b"c:grants"), Some(&b"c"[..]));
        assert_eq!(coupon_of(b"c:refused"), Some(&b"c"[..]));
        assert_eq!(coupon_of(b"c:issued:grants"), Some(&b"c:issued"[..]));
        assert_eq!(coupon_of(b"coupon:{42}"), None);
    }

    #[test]
    fn a_key_is_neither_empty_nor_huge() {
        assert!(matches!(check(b"", false), Err(Refusal::Usage(_))));
        assert!(matches!(check(&[b'k'; 1025], false), Err(Refusal::Usage(_))));
        assert_eq!(check(&[b'k'; 1024], false), Ok(()));
        assert_eq!(check(b"coupon:42", false), Ok(()));
        assert_eq!(check(b"coupon:42", true), Err(Refusal::CrossSlot));
        assert_eq!(check(b"coupon:{42}", true), Ok(()));
    }

    #[test]
    fn a_pattern_makes_keys_and_reads_them_back() {
        let pattern = KeyPattern::parse(KeyPattern::DEFAULT);
        assert_eq!(pattern.as_ref().map(|p| p.key("42")), Ok("coupon:{42}".into()));
        assert_eq!(pattern.as_ref().map(ToString::to_string).as_deref(), Ok(KeyPattern::DEFAULT));
        assert_eq!(pattern.as_ref().map(|p| p.id("coupon:{a:b}")), Ok(Some("a:b")));
        assert_eq!(pattern.as_ref().map(|p| p.id("coupon:{42}:issued")), Ok(None));
        assert_eq!(pattern.as_ref().map(|p| p.id("coupon:{}")), Ok(None));
        assert_eq!(KeyPattern::parse("a[1]*ID").map(|p| p.glob()), Ok(r"a\[1\]\**".into()));
        assert!(KeyPattern::parse("coupon").is_err());
        assert!(KeyPattern::parse("ID").is_err());
        assert!(KeyPattern::parse("ID:ID").is_err());
    }
}
