//! Options of a command: in any order, each at most once, unknown ones named in the error.

use crate::number::number;
use crate::refusal::{Refusal, quote};
use crate::user::UserId;
use std::ops::RangeInclusive;

/// The arguments of a command after its fixed ones.
pub struct Options<I> {
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Options<I> {
    /// Reads from these arguments.
    pub const fn new(rest: I) -> Self {
        Self { rest }
    }

    /// The next option's name as one of `names` spells it.
    ///
    /// # Errors
    /// [`Refusal::Usage`] that names what is not known, and what is.
    pub fn next_name(&mut self, names: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
        let Some(word) = self.rest.next() else { return Ok(None) };
        match names.iter().find(|name| word.eq_ignore_ascii_case(name.as_bytes())) {
            Some(name) => Ok(Some(name)),
            None => Err(Refusal::usage(format!("unknown option {}; known are: {}", quote(word), names.join(", ")))),
        }
    }

    /// The value behind an option.
    ///
    /// # Errors
    /// [`Refusal::Usage`] if there is none.
    pub fn value(&mut self, name: &str) -> Result<&'a [u8], Refusal> {
        self.rest.next().ok_or_else(|| Refusal::usage(format!("option {name} needs a value")))
    }

    /// The whole number behind an option.
    ///
    /// # Errors
    /// [`Refusal::Usage`] if there is none, or it is out of range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<u64, Refusal> {
        let value = self.value(name)?;
        number(value).filter(|n| range.contains(n)).ok_or_else(|| {
            Refusal::usage(format!(
                "{name} is a whole number from {} to {}, not {}",
                range.start(),
                range.end(),
                quote(value)
            ))
        })
    }

    /// The signed number behind an option.
    ///
    /// # Errors
    /// [`Refusal::Usage`] if there is none.
    pub fn signed(&mut self, name: &str) -> Result<i64, Refusal> {
        let value = self.value(name)?;
        let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| Refusal::usage(format!("{name} is a signed 64-bit integer, not {}", quote(value))))
    }

    /// The users behind an option and their number, at most so many: counted, as any word can be a user.
    ///
    /// # Errors
    /// [`Refusal::Usage`] if there are fewer, or one is none.
    pub fn users(&mut self, name: &str, max: u64) -> Result<Vec<UserId<'a>>, Refusal> {
        let count = self.number(name, 1..=max)?;
        (0..count).map(|_| UserId::parse(self.value(name)?)).collect()
    }

    /// Makes sure that nothing follows.
    ///
    /// # Errors
    /// [`Refusal::Usage`] that names what does.
    pub fn end(&mut self) -> Result<(), Refusal> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => Err(Refusal::usage(format!("unexpected {} at the end", quote(word)))),
        }
    }
}

/// Fills a slot once.
///
/// # Errors
/// [`Refusal::Usage`] if the option was given before.
pub fn set_once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::usage(format!("option {name} is given twice"))),
    }
}

/// Whether the only option this command knows is given.
///
/// # Errors
/// [`Refusal::Usage`] on any other word, or the option twice.
pub fn flag<'a>(args: impl Iterator<Item = &'a [u8]>, name: &'static str) -> Result<bool, Refusal> {
    let mut options = Options::new(args);
    let mut given = None;
    while options.next_name(&[name])?.is_some() {
        set_once(&mut given, name, ())?;
    }
    Ok(given.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_whatever_they_are_called() {
        let users = |text: &'static str| {
            let mut options = Options::new(text.split_whitespace().map(str::as_bytes));
            let users = options.users("REFUSED", 3)?.into_iter().map(UserId::as_str).collect::<Vec<_>>();
            options.end().map(|()| users)
        };
        assert_eq!(users("2 PERSISTED REFUSED"), Ok(vec!["PERSISTED", "REFUSED"]));
        for bad in ["", "a", "0", "4 a b c d", "2 a", "1 a b", "-1 a"] {
            assert!(matches!(users(bad), Err(Refusal::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_flag_is_given_once_or_not_at_all() {
        let flag = |text: &str| flag(text.split_whitespace().map(str::as_bytes), "WITHRANK");
        assert_eq!(flag(""), Ok(false));
        assert_eq!(flag("withrank"), Ok(true));
        for bad in ["RANK", "WITHRANK WITHRANK", "WITHRANK 1"] {
            assert!(matches!(flag(bad), Err(Refusal::Usage(_))), "{bad}");
        }
    }
}
